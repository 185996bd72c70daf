//! Reads a TOML file into (key, value, line), collecting every mistake on the way.

use super::{
    error::{Mistake, Origin},
    keys::{self, Key},
    value::Given,
};
use std::{io::Read, ops::Range, path::Path};
use toml::de::{DeTable, DeValue};

/// A longer file is refused.
const MAX_BYTES: u64 = 1 << 20;

/// What a file sets, in its order by key.
#[derive(Default)]
pub(super) struct FileValues {
    pub(super) values: Vec<(&'static Key, Given, Origin)>,
    pub(super) mistakes: Vec<Mistake>,
}

/// Reads `path`. `required`: named by the user, so that its absence is a mistake.
pub(super) fn read(path: &Path, required: bool) -> FileValues {
    let whole = || Origin::File {
        path: path.into(),
        line: 0,
    };
    let text = std::fs::File::open(path).and_then(|file| {
        let mut text = String::new();
        file.take(MAX_BYTES + 1).read_to_string(&mut text).map(|_| text)
    });
    let refuse = |problem: String| FileValues {
        values: Vec::new(),
        mistakes: vec![Mistake::key("config file", whole(), problem)],
    };
    match text {
        Ok(text) if text.len() as u64 > MAX_BYTES => {
            refuse(format!("is longer than {MAX_BYTES} bytes; no configuration is"))
        }
        Ok(text) => parse(&text, path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !required => FileValues::default(),
        Err(e) => refuse(format!("cannot be read: {e}")),
    }
}

/// Parses `text`, which stands in `path`.
pub(super) fn parse(text: &str, path: &Path) -> FileValues {
    let mut reader = Reader {
        text,
        path,
        out: FileValues::default(),
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        reader.not_toml(error.span().unwrap_or(0..0), error.message());
    }
    let broken: Vec<usize> = errors
        .iter()
        .map(|e| reader.line(&e.span().unwrap_or(0..0)))
        .collect();
    reader.root(table.get_ref());
    // What the parser guessed on a broken line would only repeat the mistake.
    let is_whole = |origin: &Origin| !matches!(origin, Origin::File { line, .. } if broken.contains(line));
    let count = errors.len();
    let mut out = reader.out;
    out.values.retain(|(_, _, origin)| is_whole(origin));
    let guessed = out.mistakes.split_off(count);
    out.mistakes
        .extend(guessed.into_iter().filter(|m| is_whole(&m.origin)));
    out
}

struct Reader<'a> {
    text: &'a str,
    path: &'a Path,
    out: FileValues,
}

impl Reader<'_> {
    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        1 + before.iter().filter(|b| **b == b'\n').count()
    }

    fn origin(&self, span: &Range<usize>) -> Origin {
        Origin::File {
            path: self.path.into(),
            line: self.line(span),
        }
    }

    fn not_toml(&mut self, span: Range<usize>, message: &str) {
        let origin = self.origin(&span);
        let line = self
            .text
            .lines()
            .nth(self.line(&span).saturating_sub(1))
            .unwrap_or_default();
        let name = keys::leading_name(line);
        let name = if name.is_empty() { "config file" } else { name };
        self.out
            .mistakes
            .push(Mistake::key(name, origin, format!("is not TOML: {message}")));
    }

    fn unknown(&mut self, path: &str, span: &Range<usize>) {
        let origin = self.origin(span);
        let problem = keys::unknown("key", path, keys::KEYS.iter().map(|key| key.path));
        self.out.mistakes.push(Mistake::key(path, origin, problem));
    }

    fn root(&mut self, root: &DeTable<'_>) {
        for (name, value) in root {
            let section = name.get_ref().as_ref();
            match value.get_ref() {
                DeValue::Table(table) if keys::SECTIONS.iter().any(|(known, _)| *known == section) => {
                    self.section(section, table);
                }
                DeValue::Table(_) => {
                    let origin = self.origin(&name.span());
                    let problem =
                        keys::unknown("section", section, keys::SECTIONS.iter().map(|(name, _)| *name));
                    self.out.mistakes.push(Mistake::key(section, origin, problem));
                }
                _ => self.unknown(section, &name.span()),
            }
        }
    }

    fn section(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let path = format!("{section}.{}", name.get_ref());
            let span = name.span();
            match keys::find(&path) {
                Some(key) => {
                    let origin = self.origin(&span);
                    let given = given(value.get_ref(), self.text.get(value.span()).unwrap_or_default());
                    self.out.values.push((key, given, origin));
                }
                None => match value.get_ref() {
                    DeValue::Table(table) if keys::has_below(&path) => self.section(&path, table),
                    _ => self.unknown(&path, &span),
                },
            }
        }
    }
}

fn given(value: &DeValue<'_>, source: &str) -> Given {
    match value {
        DeValue::String(text) => Given::Text(text.to_string()),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix()).ok();
            Given::Number(parsed, source.into())
        }
        DeValue::Boolean(on) => Given::Switch(*on),
        DeValue::Array(items) => items
            .iter()
            .map(|item| item.get_ref().as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .map_or_else(|| Given::Other(source.into()), Given::List),
        _ => Given::Other(source.into()),
    }
}
