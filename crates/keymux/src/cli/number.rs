//! Whole numbers that options take.

use std::ops::RangeInclusive;

/// A reader of whole numbers within `range`, whose errors say what may be given.
pub(super) fn whole<N>(
    range: RangeInclusive<N>,
) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync + 'static
where
    N: TryFrom<u64> + Into<u64> + Copy + Send + Sync + 'static,
{
    let (least, most): (u64, u64) = ((*range.start()).into(), (*range.end()).into());
    move |text| {
        let number = text.parse::<u64>().ok().filter(|number| (least..=most).contains(number));
        number
            .and_then(|number| N::try_from(number).ok())
            .ok_or_else(|| format!("give a whole number from {least} to {most}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_that_takes_a_number_says_what_it_was_given_and_what_may_be() {
        for (command, option, wrong) in [
            ("clients create c", "--rpm", "0"),
            ("clients create c", "--tpm", "x"),
            ("clients set c", "--concurrent", "1.5"),
            ("clients create c", "--weight", "1000001"),
            ("clients create c", "--max-wait-ms", "1s"),
            ("clients create c", "--budget", "nan"),
            ("teams set t", "--rpm", "many"),
            ("batch in.jsonl -o out.jsonl", "--max-concurrent", "0"),
            ("batch in.jsonl -o out.jsonl", "--max-rate", "0"),
            ("batch in.jsonl -o out.jsonl", "--budget", "-0.5"),
            ("simulate --replay in.jsonl", "--rate", "0"),
            ("simulate --replay in.jsonl", "--output-tokens", "x"),
            ("simulate burst", "--seeds", "1001"),
            ("keys", "--timeout", "0"),
        ] {
            for wrong in [wrong, "-1"] {
                let line = format!("keymux {command} {option} {wrong}");
                let error = <super::super::Cli as clap::Parser>::try_parse_from(line.split(' ')).unwrap_err();
                let told = error.to_string();
                assert!(told.contains(&format!("'{wrong}' for '{option} ")), "{line}: {told}");
                assert!(told.contains(": give "), "{line}: {told}");
            }
        }
    }

    #[test]
    fn what_is_out_of_range_or_no_whole_number_is_told_what_may_be_given() {
        let of = whole(1..=600_u32);
        assert_eq!((of("1"), of("600")), (Ok(1), Ok(600)));
        for wrong in ["0", "601", "-1", "1.5", "1e2", "", "many", "99999999999999999999"] {
            assert_eq!(of(wrong), Err("give a whole number from 1 to 600".to_owned()), "{wrong}");
        }
    }
}
