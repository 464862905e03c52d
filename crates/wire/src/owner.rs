//! Whose key it was: some providers name the owner in every answer. Two keys of one owner share its limits, so this is how
//! a gateway finds out that they do.
//!
//! A project has limits of its own beside its organisation's, so it counts as another owner. Workspaces are named nowhere.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Reads the owner that an answer's headers name, as a digest: it is compared and never shown. `None`: they name none.
pub fn read<'h, N: AsRef<[u8]>>(headers: impl Iterator<Item = (N, &'h [u8])>) -> Option<u64> {
    let (mut organization, mut project) = (None, None);
    for (name, value) in headers {
        let name = name.as_ref();
        // The first letter spares nearly all headers the rest.
        let which = match name.first().map(u8::to_ascii_lowercase) {
            Some(b'o') if name.eq_ignore_ascii_case(b"openai-organization") => &mut organization,
            Some(b'o') if name.eq_ignore_ascii_case(b"openai-project") => &mut project,
            Some(b'a') if name.eq_ignore_ascii_case(b"anthropic-organization-id") => &mut organization,
            _ => continue,
        };
        let value = value.trim_ascii();
        if !value.is_empty() {
            *which = Some(value);
        }
    }
    let mut digest = DefaultHasher::new();
    (organization?, project).hash(&mut digest);
    Some(digest.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&str, &str)]) -> Option<u64> {
        read(headers.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    #[test]
    fn an_organisation_is_an_owner_and_each_of_its_projects_another() {
        let org = of(&[("x-request-id", "1"), ("openai-organization", "org-a")]);
        assert!(org.is_some());
        assert_eq!(org, of(&[("OpenAI-Organization", " org-a ")]));
        assert_eq!(org, of(&[("openai-organization", "org-a"), ("openai-project", "")]));
        assert_ne!(org, of(&[("openai-organization", "org-b")]));
        let project = of(&[("openai-project", "proj_1"), ("openai-organization", "org-a")]);
        assert_ne!(project, org);
        assert_ne!(project, of(&[("openai-organization", "org-a"), ("openai-project", "proj_2")]));
        assert!(of(&[("anthropic-organization-id", "0f")]).is_some());
    }

    #[test]
    fn nothing_is_an_owner_but_what_names_one() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("openai-project", "proj_1")]), None, "projects are named within organisations");
        assert_eq!(of(&[("openai-organization", "  ")]), None);
        assert_eq!(of(&[("openai-version", "2020-10-01"), ("x-openai-organization", "org-a")]), None);
    }
}
