//! The files of a batch over crashes: whatever was cut off, a rerun finds what is whole, and the output comes out equal.

use super::journal::{Entry, Kind};
use super::output::{Opening, Output, Target};
use super::terms::Terms;
use std::fs;
use std::path::{Path, PathBuf};

/// A folder of its own for each test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("keymux-batch-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn target(&self, unordered: bool, errors: bool) -> Target {
        let errors = errors.then(|| self.at("errors").display().to_string());
        let terms = Terms { model: None, unordered, errors };
        Target { out: Some(self.at("out")), journal: None, terms, retry_failed: false }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Every third line ends with an error.
fn entry(seq: u64) -> Entry {
    let kind = if seq % 3 == 2 { Kind::Failed } else { Kind::Answered };
    let text = format!("line {seq} {}\n", "x".repeat(usize::try_from(seq).unwrap())).into_bytes();
    Entry { seq, mark: 100 + u32::try_from(seq).unwrap(), kind, cost_nano_usd: Some(seq), text }
}

/// In order: what both files hold in the end, if every line was done.
fn whole(lines: u64, errors: bool) -> [String; 2] {
    let text = |failed: bool| {
        let own = (0..lines).map(entry).filter(|e| !errors || (e.kind == Kind::Failed) == failed);
        own.flat_map(|e| String::from_utf8(e.text)).collect()
    };
    [text(false), if errors { text(true) } else { String::new() }]
}

fn held(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Does what is left of `lines` lines.
fn finish(target: &Target, lines: u64) -> u64 {
    let (mut output, past) = Output::open(target).unwrap();
    let mut again = 0;
    for seq in (0..lines).filter(|seq| !past.has(*seq)) {
        output.take(&[entry(seq)]).unwrap();
        again += 1;
    }
    output.close(false).unwrap();
    again
}

/// A run that ends after these lines, with a point after some of them; nothing is closed.
fn begun(target: &Target, order: &[u64], sync_after: usize) {
    let (mut output, _) = Output::open(target).unwrap();
    for (index, seq) in order.iter().enumerate() {
        output.take(&[entry(*seq)]).unwrap();
        if index == sync_after {
            output.sync().unwrap();
        }
    }
}

const ORDER: [u64; 8] = [3, 1, 0, 6, 2, 7, 5, 4];

#[test]
fn whatever_of_the_journal_is_cut_off_the_output_comes_out_equal() {
    let folder = Folder::new("cut");
    for (unordered, errors) in [(false, false), (false, true), (true, true)] {
        let target = folder.target(unordered, errors);
        let journal = target.journal_path().unwrap();
        let clean = || {
            for path in [&folder.at("out"), &folder.at("errors"), &journal] {
                let _ = fs::remove_file(path);
            }
        };
        clean();
        begun(&target, &ORDER[..6], 3);
        let (bytes, files) =
            (fs::read(&journal).unwrap(), [held(&folder.at("out")), held(&folder.at("errors"))]);
        let header = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
        // What lies before the point was durable, or the point would not be there.
        // Every fifth byte, and the whole of it.
        for cut in (header..=bytes.len()).rev().step_by(5) {
            clean();
            fs::write(&journal, &bytes[..cut]).unwrap();
            fs::write(folder.at("out"), &files[0]).unwrap();
            if errors {
                fs::write(folder.at("errors"), &files[1]).unwrap();
            }
            let again = finish(&target, 8);
            let found = [held(&folder.at("out")), held(&folder.at("errors"))];
            let sorted = |text: &String| {
                let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            if unordered {
                assert_eq!(
                    found.each_ref().map(sorted),
                    whole(8, errors).each_ref().map(sorted),
                    "cut at {cut}"
                );
            } else {
                assert_eq!(found, whole(8, errors), "cut at {cut}");
            }
            assert_eq!(again == 2, cut == bytes.len(), "cut at {cut}: {again} lines were done again");
        }
    }
}

#[test]
fn a_byte_that_changed_on_the_disk_is_told_and_nothing_is_touched() {
    let folder = Folder::new("changed");
    for finished in [false, true] {
        let target = folder.target(false, false);
        let path = target.journal_path().unwrap();
        let _ = (fs::remove_file(&path), fs::remove_file(folder.at("out")));
        let (mut output, _) = Output::open(&target).unwrap();
        for seq in ORDER {
            output.take(&[Entry { kind: Kind::Answered, ..entry(seq) }]).unwrap();
        }
        output.close(finished).unwrap();
        let (sound, before) = (fs::read(&path).unwrap(), held(&folder.at("out")));
        let mut bytes = sound.clone();
        let at = bytes.windows(4).position(|w| w == b"\nL 2" || w == b"ne 2").unwrap();
        bytes[at + 3] = b'9';
        fs::write(&path, &bytes).unwrap();
        let told = Output::open(&target).err().unwrap();
        assert!(told.contains("is damaged behind byte") && told.contains("truncate -s"), "{told}");
        assert_eq!((fs::read(&path).unwrap(), held(&folder.at("out"))), (bytes, before.clone()));
        // The end of one that was cut down says where the texts are.
        fs::write(&path, &sound[..sound.len() - 3]).unwrap();
        let told = Output::open(&target).err();
        assert_eq!(told.is_some_and(|told| told.contains("has lost its end")), finished);
        assert_eq!(held(&folder.at("out")), before);
    }
}

#[test]
fn an_output_that_is_lost_while_it_is_written_keeps_its_answers() {
    let lose: [fn(&Path); 3] = [
        |path| fs::remove_file(path).unwrap(),
        |path| fs::write(path, "").unwrap(),
        |path| {
            let text = fs::read(path).unwrap();
            fs::remove_file(path).unwrap();
            fs::write(path, text).unwrap();
        },
    ];
    for lose in lose {
        let folder = Folder::new("lost-meanwhile");
        let target = folder.target(false, false);
        let (mut output, _) = Output::open(&target).unwrap();
        for seq in 0..8 {
            output.take(&[entry(seq)]).unwrap();
        }
        lose(&folder.at("out"));
        let told = output.close(true).unwrap_err();
        assert!(told.contains("is not what was written") && told.contains("kept in the journal"), "{told}");
        assert_eq!(finish(&target, 8), 0);
        assert_eq!(held(&folder.at("out")), whole(8, false)[0]);
    }
}

#[test]
fn files_of_others_are_not_written_over() {
    let folder = Folder::new("others");
    let told = |target: &Target| Output::open(target).err().unwrap();
    let mine = |name: &str| fs::write(folder.at(name), "mine\n").unwrap();
    mine("errors");
    for target in [folder.target(false, true), Target { out: None, ..folder.target(false, true) }] {
        assert!(told(&target).contains("errors is there already"), "{}", told(&target));
    }
    // A journal that is asked for is of one output.
    let asked = Target { journal: Some(folder.at("st.x")), ..folder.target(false, false) };
    for name in ["st.x.new", "st.journal.new", "other"] {
        mine(name);
    }
    let (mut output, _) = Output::open(&asked).unwrap();
    output.take(&[entry(0)]).unwrap();
    output.close(true).unwrap();
    let other = Target { out: Some(folder.at("other")), ..asked.clone() };
    assert!(told(&other).contains("is the journal of"), "{}", told(&other));
    assert_eq!(Output::open(&asked).unwrap().1.done(), 1);
    fs::write(folder.at("empty"), "").unwrap();
    let empty = Target { journal: Some(folder.at("empty")), ..other };
    assert!(told(&empty).contains("other is there already"), "{}", told(&empty));
    for name in ["errors", "st.x.new", "st.journal.new", "other"] {
        assert_eq!(held(&folder.at(name)), "mine\n", "{name}");
    }
}

#[test]
fn what_cannot_begin_touches_nothing() {
    let folder = Folder::new("untouched");
    let target = folder.target(false, false);
    begun(&target, &ORDER, 2);
    let journal = target.journal_path().unwrap();
    let stands = || (fs::read(&journal).unwrap(), held(&folder.at("out")));
    let before = stands();
    drop(Opening::of(&Target { retry_failed: true, ..target.clone() }).unwrap());
    assert_eq!(stands(), before);
    // Nor does an output that cannot be made leave a journal.
    let long = folder.at(&"x".repeat(300));
    let nowhere = Target { out: Some(long), journal: Some(folder.at("journal")), ..target };
    assert!(Output::open(&nowhere).is_err());
    assert!(!folder.at("journal").exists());
}

#[test]
fn an_output_that_somebody_lost_is_made_again_without_a_call() {
    let folder = Folder::new("lost");
    let target = folder.target(false, true);
    begun(&target, &ORDER, 7);
    fs::remove_file(folder.at("out")).unwrap();
    assert_eq!(finish(&target, 8), 0);
    assert_eq!([held(&folder.at("out")), held(&folder.at("errors"))], whole(8, true));
}

#[test]
fn compressed_output_is_whole_over_a_crash() {
    use std::io::Read as _;
    let folder = Folder::new("gzip");
    let target = Target { out: Some(folder.at("out.gz")), ..folder.target(false, false) };
    begun(&target, &ORDER[..5], 2);
    assert_eq!(finish(&target, 8), 3);
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(fs::File::open(folder.at("out.gz")).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, whole(8, false)[0]);
}

#[test]
fn lines_that_failed_are_done_again_where_they_stood() {
    let folder = Folder::new("again");
    let target = folder.target(false, false);
    begun(&target, &ORDER, 100);
    let retry = Target { retry_failed: true, ..target.clone() };
    let (mut output, past) = Output::open(&retry).unwrap();
    let left: Vec<u64> = (0..8).filter(|seq| !past.has(*seq)).collect();
    assert_eq!((left, past.counts, past.spent_nano_usd), (vec![2, 5], [6, 0, 0], 28));
    for seq in [5, 2] {
        let text = format!("mended {seq}\n").into_bytes();
        output.take(&[Entry { text, kind: Kind::Answered, ..entry(seq) }]).unwrap();
    }
    output.close(true).unwrap();
    let before = whole(8, false);
    let expected = before[0].lines().map(|line| match &line[..6] {
        "line 2" | "line 5" => format!("mended {}\n", &line[5..6]),
        _ => format!("{line}\n"),
    });
    assert_eq!(held(&folder.at("out")), expected.collect::<String>());
    // It is whole: a rerun of either kind finds nothing to do, without the texts.
    for target in [&target, &retry] {
        let (output, past) = Output::open(target).unwrap();
        assert_eq!((past.counts, past.spent_nano_usd), ([8, 0, 0], 28 + 2 + 5));
        output.close(true).unwrap();
    }
    let journal = held(&target.journal_path().unwrap());
    assert!(!journal.contains("mended"), "{journal}");
    fs::write(folder.at("out"), "").unwrap();
    assert!(Output::open(&target).err().unwrap().contains("is not as it was left"));
}

/// The process may die anywhere in it, before a point or after one, and whoever comes next asks for the same or not.
#[test]
fn a_retry_that_was_killed_loses_no_answer() {
    for (unordered, done, synced, again) in [false, true].into_iter().flat_map(|unordered| {
        [(0, false), (1, true), (4, false), (4, true)]
            .into_iter()
            .flat_map(move |(done, synced)| [true, false].map(|again| (unordered, done, synced, again)))
    }) {
        let folder = Folder::new("retry-killed");
        let target = folder.target(unordered, false);
        begun(&target, &ORDER, 7);
        let retry = Target { retry_failed: true, ..target.clone() };
        // Longer than what stood there before.
        let mended = |seq| Entry {
            kind: Kind::Answered,
            text: format!("mended {seq} {}\n", "y".repeat(400)).into_bytes(),
            ..entry(seq)
        };
        let (mut output, _) = Output::open(&retry).unwrap();
        for seq in &[2, 5, 8, 9][..done] {
            output.take(&[mended(*seq)]).unwrap();
        }
        if synced {
            output.sync().unwrap();
        }
        drop(output);
        let (mut output, past) = Output::open(if again { &retry } else { &target }).unwrap();
        let left: Vec<u64> = (0..10).filter(|seq| !past.has(*seq)).collect();
        assert_eq!(left, [2, 5, 8, 9][done..], "{unordered} {synced} {again}");
        for seq in left {
            output.take(&[mended(seq)]).unwrap();
        }
        output.close(true).unwrap();
        let mut found: Vec<_> = held(&folder.at("out")).lines().map(str::to_owned).collect();
        let own = |seq| if [2, 5, 8, 9].contains(&seq) { mended(seq) } else { entry(seq) };
        let mut whole: Vec<_> =
            (0..10).map(|seq| String::from_utf8(own(seq).text).unwrap().replace('\n', "")).collect();
        if unordered {
            found.sort();
            whole.sort();
        }
        assert_eq!(found, whole, "{unordered} {done} {synced} {again}");
    }
}

#[test]
fn what_would_mix_or_overwrite_is_refused_with_the_mend() {
    let folder = Folder::new("refused");
    let target = folder.target(false, false);
    let told = |target: &Target| Output::open(target).err().unwrap();
    fs::write(folder.at("out"), "mine\n").unwrap();
    assert!(told(&target).contains("is there already"), "{}", told(&target));
    assert_eq!(held(&folder.at("out")), "mine\n");
    fs::remove_file(folder.at("out")).unwrap();
    let (held_open, _) = Output::open(&target).unwrap();
    assert!(told(&target).contains("is in use"), "{}", told(&target));
    drop(held_open);
    begun(&target, &[0], 0);
    let terms = Terms { model: Some("m".to_owned()), unordered: true, errors: None };
    let other = told(&Target { terms, ..target.clone() });
    assert!(other.contains("--model was none and is m, --unordered was not given and is given"), "{other}");
    fs::write(target.journal_path().unwrap(), "a diary\n").unwrap();
    assert!(told(&target).contains("is no journal"), "{}", told(&target));
    let nowhere = Target { out: Some(folder.at("none/out")), ..target };
    assert!(told(&nowhere).contains("none/out"), "{}", told(&nowhere));
}

#[test]
fn what_was_begun_on_other_terms_and_has_no_answer_is_begun_anew() {
    let folder = Folder::new("anew");
    let target = folder.target(false, false);
    let (mut output, _) = Output::open(&target).unwrap();
    let failed =
        |seq| Entry { kind: Kind::Bad, cost_nano_usd: None, text: b"no model\n".to_vec(), ..entry(seq) };
    output.take(&[failed(0), failed(1)]).unwrap();
    output.close(false).unwrap();
    assert_eq!(held(&folder.at("out")), "no model\nno model\n");
    let terms = Terms { model: Some("m".to_owned()), ..target.terms.clone() };
    let other = Target { terms, ..target.clone() };
    // Who only looks changes nothing.
    let before = fs::read(target.journal_path().unwrap()).unwrap();
    assert_eq!(other.past().unwrap().done(), 0);
    assert_eq!(fs::read(target.journal_path().unwrap()).unwrap(), before);
    assert_eq!(finish(&other, 8), 8);
    assert_eq!(held(&folder.at("out")), whole(8, false)[0]);
    // Now it has answers, and is kept to its terms.
    assert!(Output::open(&target).err().unwrap().contains("--model was m and is none"));
}
