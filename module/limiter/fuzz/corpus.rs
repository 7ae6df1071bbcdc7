//! The bytes that fuzzing has found worth keeping: how they are kept, and what they are made of.

use std::fs;
use std::path::{Path, PathBuf};

/// The entries of one folder of the corpus, with the files that they come from.
pub(crate) fn entries(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    assert!(paths.len() > 10, "{folder:?} holds a corpus");
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// The pieces of an entry in the folder `applied`, each of which stands behind its length in one
/// byte: a value, and what is then done to it.
pub(crate) fn pieces(mut entry: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&length, rest) = entry.split_first()?;
        let (piece, rest) = rest.split_at(usize::from(length).min(rest.len()));
        entry = rest;
        Some(piece)
    })
}
