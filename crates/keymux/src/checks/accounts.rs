//! Which keys share an account, as their providers tell it. Keys of one account share its limits, so taking them for
//! several accounts promises quota that is not there.

use super::Checked;

/// Keys of one provider that have the same owner, as places in `checked`; only where there are at least two.
pub fn shared(checked: &[Checked]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (at, one) in checked.iter().enumerate() {
        let same = |other: &Checked| {
            one.owner.is_some() && other.owner == one.owner && other.provider == one.provider
        };
        match groups.iter_mut().find(|group| same(&checked[group[0]])) {
            Some(group) => group.push(at),
            None => groups.push(vec![at]),
        }
    }
    groups.retain(|group| group.len() > 1);
    groups
}
