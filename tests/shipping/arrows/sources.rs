//! Rust sources, and the paths in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::mem;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// The files of one crate, by their module paths: `redis/node`, `lib`. A `mod.rs` has the name of
/// its directory.
pub(super) struct Sources {
    /// The files of the crate that each file names.
    pub(super) arrows: BTreeMap<String, BTreeSet<String>>,
    /// The first words of the paths of each file, among them the names of crates.
    pub(super) crates: BTreeSet<(String, String)>,
}

impl Sources {
    /// Reads all files below the directory of the sources of a crate.
    pub(super) fn read(root: &Path) -> Self {
        let files = rust_files(root);
        assert!(!files.is_empty(), "{} has no sources", root.display());
        let files: Vec<_> = files
            .iter()
            .map(|(name, source)| (name.strip_suffix(".rs").unwrap(), source.as_str()))
            .filter(|(name, _)| name.rsplit('/').next() != Some("tests"))
            .collect();
        Self::parse(&files)
    }

    /// Parses files, each with its path below the sources, without `.rs`.
    pub(super) fn parse(files: &[(&str, &str)]) -> Self {
        let modules: Vec<Vec<String>> = files.iter().map(|(name, _)| module_of(name)).collect();
        let known: BTreeSet<&Vec<String>> = modules.iter().collect();
        let (mut arrows, mut crates) = (BTreeMap::new(), BTreeSet::new());
        for ((file, source), module) in files.iter().zip(&modules) {
            let source = syn::parse_file(source).unwrap_or_else(|error| panic!("{file}: {error}"));
            let mut paths = Paths::default();
            paths.visit_file(&source);
            let targets = paths.found.iter().filter_map(|path| target(module, path, &known));
            let targets = targets.filter(|target| target != module);
            arrows.insert(name_of(module), targets.map(|target| name_of(&target)).collect());
            for path in &paths.found {
                crates.extend(path.first().map(|first| (name_of(module), first.clone())));
            }
        }
        Self { arrows, crates }
    }
}

/// Returns the text of every Rust file below `root`, by its path from there.
pub(super) fn rust_files(root: &Path) -> BTreeMap<String, String> {
    let (mut files, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(directory) = open.pop() {
        let entries =
            fs::read_dir(&directory).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    open.push(path);
                }
            } else if name.ends_with(".rs") {
                let below = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.insert(below, fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

/// Returns whether `unsafe` is a word of the code, in a macro for example.
pub(super) fn has_unsafe_code(source: &str) -> bool {
    fn has_word(tokens: TokenStream) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Ident(word) => word == "unsafe",
            TokenTree::Group(group) => has_word(group.stream()),
            TokenTree::Punct(_) | TokenTree::Literal(_) => false,
        })
    }
    has_word(source.parse().unwrap())
}

/// Returns whether the file has `#![forbid(unsafe_code)]`.
pub(super) fn forbids_unsafe_code(source: &str) -> bool {
    syn::parse_file(source).unwrap().attrs.iter().any(|attribute| {
        attribute.path().is_ident("forbid")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "unsafe_code")
    })
}

/// Returns the module path of a file. The roots of crates have an empty one, except `main`, which
/// is the root of a program beside the library.
fn module_of(file: &str) -> Vec<String> {
    let words = file.split('/').map(str::to_owned);
    let mut words: Vec<_> = words.collect();
    if words.last().is_some_and(|word| word == "mod" || word == "lib") {
        words.pop();
    }
    words
}

fn name_of(module: &[String]) -> String {
    if module.is_empty() { "lib".to_owned() } else { module.join("/") }
}

/// Returns the file of the same crate to which a path in `module` leads, if there is one.
fn target(
    module: &[String],
    path: &[String],
    known: &BTreeSet<&Vec<String>>,
) -> Option<Vec<String>> {
    let (first, mut rest) = path.split_first()?;
    let mut base = match first.as_str() {
        "crate" => Vec::new(),
        "self" => module.to_vec(),
        "super" => module.split_last()?.1.to_vec(),
        child => {
            let child = [module, &[child.to_owned()]].concat();
            if !known.contains(&child) {
                return None;
            }
            child
        }
    };
    while let Some((_, after)) = rest.split_first().filter(|(word, _)| *word == "super") {
        base.pop()?;
        rest = after;
    }
    for word in rest {
        let longer = [base.as_slice(), std::slice::from_ref(word)].concat();
        if !known.contains(&longer) {
            break;
        }
        base = longer;
    }
    known.contains(&base).then_some(base)
}

/// Every path of a file, tests excepted.
#[derive(Default)]
struct Paths {
    found: BTreeSet<Vec<String>>,
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.add_tree(&item.tree, &mut Vec::new());
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_test(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add_path(path.segments.iter().map(|word| word.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        visit::visit_macro(self, invocation);
        self.add_tokens(invocation.tokens.clone());
    }

    // `pub(crate)` is no path to a file.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

impl Paths {
    fn add_tree(&mut self, tree: &syn::UseTree, before: &mut Vec<String>) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.add_tree(&path.tree, before);
                before.pop();
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(tree, before);
                }
            }
            syn::UseTree::Name(name) => self.add_leaf(before, &name.ident.to_string()),
            syn::UseTree::Rename(rename) => self.add_leaf(before, &rename.ident.to_string()),
            syn::UseTree::Glob(_) => {
                self.found.insert(before.clone());
            }
        }
    }

    fn add_leaf(&mut self, before: &[String], leaf: &str) {
        // `use a::{self}` leads to `a`.
        let leaf = (leaf != "self" || before.is_empty()).then(|| leaf.to_owned());
        self.found.insert(before.iter().cloned().chain(leaf).collect());
    }

    /// Adds each sequence of words with `::` between them.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut colons) = (Vec::new(), 0);
        for token in tokens {
            match token {
                TokenTree::Ident(word) => {
                    if colons != 2 {
                        self.add_path(mem::take(&mut path));
                    }
                    path.push(word.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                token => {
                    self.add_path(mem::take(&mut path));
                    if let TokenTree::Group(group) = token {
                        self.add_tokens(group.stream());
                    }
                }
            }
        }
        self.add_path(path);
    }

    /// Adds a path of the code. A word alone names a variable or an imported item.
    fn add_path(&mut self, path: Vec<String>) {
        if path.len() > 1 {
            self.found.insert(path);
        }
    }
}

/// Returns whether the attributes contain `#[cfg(test)]`.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "test")
    })
}
