//! Circles of imports: files of a crate that name one another in `use` lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::{Attribute, Item, UseTree, Visibility};

use crate::step::Failure;

/// Path of a module, and of what stands in it.
type Names = Vec<String>;

/// Names of other files in one file.
#[derive(Debug, Default)]
struct File {
    /// Paths that it uses.
    uses: Vec<Names>,
    /// Names that it hands on, and where they stand: whoever uses one uses that.
    handed_on: BTreeMap<String, Names>,
}

/// Files of a crate by module.
type Crate = BTreeMap<Names, File>;

/// Refuses crates in which files import each other in a circle.
///
/// # Errors
/// [`Failure`], naming the files of every circle.
pub fn check(root: &Path) -> Result<(), Failure> {
    let mut found = Vec::new();
    for sources in sources(root).map_err(|e| Failure::new(format!("cannot read sources: {e}")))? {
        let files = read(&sources).map_err(Failure::new)?;
        for circle in circles(&files) {
            let names: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
            found.push(format!("{}: {}", sources.display(), names.join(", ")));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let list = found.join("\n  ");
    Err(Failure::new(format!("files import each other in a circle:\n  {list}")))
}

/// The source folders of all crates.
fn sources(root: &Path) -> std::io::Result<Vec<std::path::PathBuf>> {
    let mut all =
        ["xtask/src", "experiments/src", "bindings/python/src"].map(|own| root.join(own)).to_vec();
    for folder in ["crates", "benches"] {
        for entry in fs::read_dir(root.join(folder))? {
            all.push(entry?.path().join("src"));
        }
    }
    all.retain(|path| path.is_dir());
    all.sort();
    Ok(all)
}

/// Reads every file of a crate.
fn read(sources: &Path) -> Result<Crate, String> {
    fn visit(folder: &Path, module: &Names, into: &mut Crate) -> Result<(), String> {
        let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        for entry in entries {
            let path = entry.map_err(|e| e.to_string())?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let own = || module.iter().cloned().chain([name.clone()]).collect::<Names>();
            if path.is_dir() {
                visit(&path, &own(), into)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).map_err(|e| e.to_string())?;
                let file = parse(&text).map_err(|e| format!("{}: {e}", path.display()))?;
                let is_root = ["mod", "lib", "main"].contains(&name.as_str());
                let module = if is_root { module.clone() } else { own() };
                let known: &mut File = into.entry(module).or_default();
                known.uses.extend(file.uses);
                known.handed_on.extend(file.handed_on);
            }
        }
        Ok(())
    }
    let mut files = Crate::new();
    visit(sources, &Names::new(), &mut files)?;
    Ok(files)
}

/// The `use` lines of one file, but those of its tests.
fn parse(text: &str) -> syn::Result<File> {
    let mut file = File::default();
    for item in syn::parse_file(text)?.items {
        let Item::Use(line) = item else { continue };
        if line.attrs.iter().any(is_for_tests) {
            continue;
        }
        let mut paths = Vec::new();
        spell_out(&line.tree, &Names::new(), &mut paths);
        for (path, name) in paths {
            match line.vis {
                Visibility::Inherited => file.uses.push(path),
                _ => drop(file.handed_on.insert(name, path)),
            }
        }
    }
    Ok(file)
}

fn is_for_tests(attribute: &Attribute) -> bool {
    let is_test = |text: String| text.contains("test");
    attribute.path().is_ident("cfg")
        && attribute.meta.require_list().is_ok_and(|list| is_test(list.tokens.to_string()))
}

/// Every path of a tree of them, with the name it gets.
fn spell_out(tree: &UseTree, before: &Names, into: &mut Vec<(Names, String)>) {
    let with = |name: String| before.iter().cloned().chain([name]).collect::<Names>();
    match tree {
        UseTree::Path(path) => spell_out(&path.tree, &with(path.ident.to_string()), into),
        UseTree::Name(name) if name.ident == "self" => {
            into.push((before.clone(), before.last().cloned().unwrap_or_default()));
        }
        UseTree::Name(name) => into.push((with(name.ident.to_string()), name.ident.to_string())),
        UseTree::Rename(name) => into.push((with(name.ident.to_string()), name.rename.to_string())),
        UseTree::Glob(_) => into.push((before.clone(), "*".to_owned())),
        UseTree::Group(group) => group.items.iter().for_each(|tree| spell_out(tree, before, into)),
    }
}

/// A path from the root of its crate; `None` of another crate.
fn absolute(files: &Crate, module: &Names, path: &[String]) -> Option<Names> {
    let (first, rest) = path.split_first()?;
    let join = |base: &[String], rest: &[String]| base.iter().chain(rest).cloned().collect();
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some(join(module, rest)),
        "super" => {
            let ups = path.iter().take_while(|name| *name == "super").count();
            Some(join(&module[..module.len().checked_sub(ups)?], &path[ups..]))
        }
        _ => {
            let own: Names = join(module, std::slice::from_ref(first));
            files.contains_key(&own).then(|| join(module, path))
        }
    }
}

/// The file in which what `path` names stands, through all that hand it on.
fn home(files: &Crate, module: &Names, path: &[String], depth: usize) -> Option<Names> {
    let whole = absolute(files, module, path)?;
    let length = (0..=whole.len()).rev().find(|&n| files.contains_key(&whole[..n]))?;
    let (owner, rest) = (whole[..length].to_vec(), &whole[length..]);
    let Some(name) = rest.first() else { return Some(owner) };
    match files[&owner].handed_on.get(name) {
        Some(from) if depth < 8 => {
            let further: Names = from.iter().chain(&rest[1..]).cloned().collect();
            home(files, &owner, &further, depth + 1).or(Some(owner))
        }
        _ => Some(owner),
    }
}

/// Sets of files each of which reaches all others of its set.
fn circles(files: &Crate) -> Vec<Vec<Names>> {
    let next: BTreeMap<&Names, BTreeSet<Names>> = files
        .iter()
        .map(|(module, file)| {
            let homes = file.uses.iter().filter_map(|path| home(files, module, path, 0));
            (module, homes.filter(|home| home != module).collect())
        })
        .collect();
    let reached: BTreeMap<&Names, BTreeSet<Names>> = files
        .keys()
        .map(|module| {
            let mut seen = BTreeSet::new();
            let mut waiting: Vec<Names> = next[module].iter().cloned().collect();
            while let Some(other) = waiting.pop() {
                if seen.insert(other.clone()) {
                    waiting.extend(next[&other].iter().cloned());
                }
            }
            (module, seen)
        })
        .collect();
    let mut found: Vec<Vec<Names>> = Vec::new();
    for module in files.keys().filter(|module| reached[module].contains(*module)) {
        if found.iter().any(|circle| circle.contains(module)) {
            continue;
        }
        let mutual =
            |other: &&Names| reached[module].contains(*other) && reached[*other].contains(module);
        found.push(files.keys().filter(mutual).cloned().collect());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let file = |(module, text): &(&str, &str)| {
            let module = module.split("::").filter(|name| !name.is_empty());
            (module.map(str::to_owned).collect(), parse(text).expect("a file"))
        };
        let files: Crate = files.iter().map(file).collect();
        circles(&files).iter().map(|c| c.iter().map(|names| names.join("::")).collect()).collect()
    }

    #[test]
    fn two_files_that_name_each_other_are_a_circle() {
        let found = of(&[("", ""), ("a", "use crate::b::B;"), ("b", "use super::a::{self, A};")]);
        assert_eq!(found, [["a", "b"]]);
    }

    #[test]
    fn a_name_handed_on_is_that_of_its_file() {
        let root = ("", "mod a;\nmod b;\npub use b::B;");
        // The root hands on what stands in b, so that a circle over it is one with b.
        assert_eq!(of(&[root, ("a", "use crate::B;"), ("b", "")]), Vec::<Vec<String>>::new());
        assert_eq!(of(&[root, ("a", "use crate::B;"), ("b", "use crate::a::A;")]), [["a", "b"]]);
    }

    #[test]
    fn this_project_has_none() {
        check(crate::step::root()).map_err(|failure| failure.message).expect("no circle");
    }

    #[test]
    fn children_and_parents_count() {
        let found = of(&[("", ""), ("a", "use self::b::B;"), ("a::b", "use super::A;")]);
        assert_eq!(found, [["a", "a::b"]]);
    }

    #[test]
    fn tests_and_other_crates_do_not() {
        let test = "#[cfg(test)]\nuse crate::a::A;\nmod tests { use crate::a::A; }";
        let found = of(&[("", ""), ("a", "use std::fmt;\nuse crate::b::B;"), ("b", test)]);
        assert_eq!(found, Vec::<Vec<String>>::new());
    }
}
