//! Where `--output` and `--out` lead: links, pipes, devices and this program's own streams.
#![cfg(unix)]

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::process::{Command, Stdio};

use crate::common::files::{Folder, numbers};
use crate::common::write_model;

const BINARY: &str = env!("CARGO_BIN_EXE_marginals");

fn folder() -> Folder {
    let tensor = |seed, count| (vec![1, 1, count / 2, 2], numbers(seed, count));
    let inputs =
        [("q", 6), ("k", 8), ("v", 8)].map(|(name, n)| (name.to_owned(), tensor(n as f64, n)));
    let model = "structure = \"each-query-picks-one\"\npotential = \"dot\"";
    Folder::new(model, &inputs.into())
}

/// `marginals infer` of the folder with answers to `output`.
fn infer(folder: &Folder, output: &str) -> Command {
    let mut command = Command::new(BINARY);
    command.current_dir(folder.0.path()).args(["infer", "--model", "model.toml"]);
    command.args(["--input", "in.safetensors", "--output", output]);
    command
}

/// Bytes that a plain file gets.
fn expected(folder: &Folder) -> Vec<u8> {
    assert!(infer(folder, "plain").status().unwrap().success());
    fs::read(folder.0.path().join("plain")).unwrap()
}

#[test]
fn links_lead_to_what_is_written() {
    let folder = folder();
    let expected = expected(&folder);
    let at = |name: &str| folder.0.path().join(name);
    fs::create_dir(at("elsewhere")).unwrap();
    fs::write(at("elsewhere/old"), b"old").unwrap();
    symlink("elsewhere/old", at("link")).unwrap();
    symlink("elsewhere/new", at("dangling")).unwrap();
    symlink("dangling", at("twice")).unwrap();
    for (link, target) in [("link", "elsewhere/old"), ("twice", "elsewhere/new")] {
        assert!(infer(&folder, link).status().unwrap().success());
        assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink());
        assert_eq!(fs::read(at(target)).unwrap(), expected);
    }
    assert_eq!(fs::read_dir(at("elsewhere")).unwrap().count(), 2, "nothing else is left there");
}

#[test]
fn folders_are_refused_by_name() {
    let folder = folder();
    fs::create_dir(folder.0.path().join("there")).unwrap();
    symlink("there", folder.0.path().join("link")).unwrap();
    for name in ["there", "link", "there/"] {
        let told = infer(&folder, name).output().unwrap();
        assert_eq!(told.status.code(), Some(2));
        let told = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(
            told.contains(name) && told.contains("it is a folder. Name a file in it"),
            "{told}"
        );
    }
}

#[test]
fn pipes_and_devices_are_written_into() {
    let folder = folder();
    let expected = expected(&folder);
    let pipe = folder.0.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut writer = infer(&folder, "pipe").spawn().unwrap();
    let mut found = Vec::new();
    File::open(&pipe).unwrap().read_to_end(&mut found).unwrap();
    assert!(writer.wait().unwrap().success());
    assert_eq!(found, expected);
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());

    assert!(infer(&folder, "/dev/null").status().unwrap().success());
    assert!(fs::symlink_metadata("/dev/null").unwrap().file_type().is_char_device());
    #[cfg(target_os = "linux")]
    {
        let told = infer(&folder, "/dev/full").output().unwrap();
        assert_eq!(told.status.code(), Some(2));
        let told = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(told.contains("cannot write /dev/full"), "{told}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn standard_output_by_its_name_is_standard_output() {
    let folder = folder();
    let expected = expected(&folder);
    symlink("/dev/stdout", folder.0.path().join("link")).unwrap();
    for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"] {
        let found = infer(&folder, name).output().unwrap();
        assert!(found.status.success(), "{name}: {}", String::from_utf8_lossy(&found.stderr));
        assert_eq!(found.stdout, expected, "{name}");
    }
    // A file behind it is gone on with where whoever opened it stands.
    let path = folder.0.path().join("list");
    fs::write(&path, b"before ").unwrap();
    let list = || OpenOptions::new().append(true).open(&path).unwrap();
    assert!(infer(&folder, "/dev/stdout").stdout(list()).status().unwrap().success());
    assert_eq!(fs::read(&path).unwrap(), [b"before ", expected.as_slice()].concat());

    // A reader that has gone away is no error, as it is none to `| head`.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended =
        infer(&folder, "/dev/stdout").stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.len()), (Some(0), 0));
}

#[test]
fn results_of_an_audit_go_through_links_too() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_model(&at("model"));
    fs::write(at("text.txt"), "a single man in want of a wife").unwrap();
    for name in ["real", "out"] {
        fs::create_dir(at(name)).unwrap();
    }
    symlink("../real/audit.json", at("out/audit.json")).unwrap();
    let audit = || {
        let mut command = Command::new(BINARY);
        command.current_dir(folder.path()).args(["audit", "model", "text.txt", "--out", "out"]);
        command.output().unwrap()
    };
    assert!(audit().status.success());
    assert!(fs::symlink_metadata(at("out/audit.json")).unwrap().is_symlink());
    assert!(fs::read_to_string(at("real/audit.json")).unwrap().contains("marginals-audit"));
    fs::remove_file(at("out/audit.json")).unwrap();
    fs::create_dir(at("out/audit.json")).unwrap();
    let told = audit();
    assert_eq!(told.status.code(), Some(2));
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains("out/audit.json: it is a folder"), "{told}");
}
