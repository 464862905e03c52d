//! Packs the dashboard into the binary, if it was built (`scripts/need dashboard`): each file plain and compressed, under
//! a name that changes with it. Without it the binary is built all the same.

#![expect(clippy::disallowed_methods, reason = "cargo tells a build script its folders by the environment")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    // The folder is in the repository, its content is not: a missing path would make cargo build anew every time.
    println!("cargo::rerun-if-changed=dashboard/dist");
    let dist = PathBuf::from(env::var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("dashboard/dist");
    let out = PathBuf::from(env::var("OUT_DIR").unwrap_or_default());
    let mut list = String::from("const ASSETS: &[Asset] = &[\n");
    let mut files = Vec::new();
    for folder in ["", "assets"] {
        collect(&dist, folder, &mut files)?;
    }
    files.sort();
    for (at, name) in files.into_iter().enumerate() {
        // Copies: the page may be built again while the compiler reads.
        let (path, compressed) = (out.join(format!("{at}")), out.join(format!("{at}.gz")));
        fs::copy(dist.join(&name), &path)?;
        fs::copy(dist.join(format!("{name}.gz")), &compressed)?;
        let (plain, gzip) = (path.to_string_lossy(), compressed.to_string_lossy());
        let etag = format!("\"{:016x}\"", fnv(&fs::read(&path)?));
        // Writing to a String cannot fail.
        let _ = writeln!(
            list,
            "    Asset {{ name: {name:?}, etag: {etag:?}, plain: include_bytes!({plain:?}), gzip: include_bytes!({gzip:?}) }},",
        );
    }
    list.push_str("];\n");
    fs::write(out.join("dashboard.rs"), list)
}

/// Files that have a compressed twin.
fn collect(dist: &Path, folder: &str, files: &mut Vec<String>) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(dist.join(folder)) else { return Ok(()) };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if dist.join(format!("{name}.gz")).is_file() {
            files.push(name);
        }
    }
    Ok(())
}

/// FNV-1a: tells versions of a file apart, keeps no secrets.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
