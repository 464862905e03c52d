//! Names of models as globs: `*` stands for anything, case of ASCII letters does not matter.

use crate::fleet::ModelSet;

impl ModelSet {
    /// Whether the set holds this model. An empty set holds every one.
    pub fn matches(&self, model: &str) -> bool {
        self.0.is_empty()
            || self
                .0
                .iter()
                .any(|glob| fits(glob.as_bytes(), model.as_bytes(), |g, n| g.eq_ignore_ascii_case(&n)))
    }
}

/// Whether a glob fits a name: `*` is anything, every other sign what `same` takes for the byte at its place. Greedy
/// matching with one point of return: linear for all that people write, quadratic at worst.
pub fn fits(glob: &[u8], name: &[u8], same: impl Fn(u8, u8) -> bool) -> bool {
    let (mut g, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if g < glob.len() && glob[g] == b'*' {
            star = Some((g, n));
            g += 1;
        } else if g < glob.len() && same(glob[g], name[n]) {
            g += 1;
            n += 1;
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            g = at + 1;
            n = from + 1;
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        let set = |globs: &[&str]| ModelSet(globs.iter().map(|g| Box::from(*g)).collect());
        assert!(set(&[]).matches("anything"));
        assert!(set(&["gpt-4o*"]).matches("GPT-4o-mini"));
        assert!(!set(&["gpt-4o*"]).matches("gpt-4"));
        assert!(set(&["*:free"]).matches("a/b:free"));
        assert!(set(&["a*b*c"]).matches("aXbYbc") && !set(&["a*b*c"]).matches("aXbYb"));
        assert!(set(&["x", "y"]).matches("Y") && !set(&["x", "y"]).matches("xy"));
        assert!(set(&["**"]).matches("") && !set(&["a"]).matches(""));
    }
}
