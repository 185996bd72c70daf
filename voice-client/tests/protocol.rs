//! docs/PROTOCOL.md and the `.proto` files say the same: every message, field and enum value stands in both.
#![expect(clippy::unwrap_used, reason = "a test's own mistakes may panic")]

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};
use voice_client::proto::DESCRIPTORS;

type Names = BTreeMap<String, BTreeSet<String>>;

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PROTOCOL.md");
    fs::read_to_string(path).unwrap()
}

/// Messages with their fields, and enums with their values.
fn described() -> (Names, Names) {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let fields = |message: &DescriptorProto| message.field.iter().map(|f| f.name().to_owned()).collect();
    let messages = files.iter().flat_map(|file| &file.message_type);
    let enums = files.iter().flat_map(|file| &file.enum_type);
    (
        messages.map(|m| (m.name().to_owned(), fields(m))).collect(),
        enums
            .map(|e| {
                let values = e.value.iter().map(|v| v.name().to_owned()).collect();
                (e.name().to_owned(), values)
            })
            .collect(),
    )
}

/// The table below a heading line: names in the first column, what is in backticks in the second.
fn table(document: &str, head: &str) -> Names {
    let rows = document.lines().skip_while(|line| *line != head).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let mut columns = line.split('|').skip(1).map(str::trim);
            let name = columns.next().unwrap().to_owned();
            let ticked = columns.next().unwrap().split('`').skip(1).step_by(2);
            (name, ticked.map(str::to_owned).collect())
        })
        .collect()
}

#[test]
fn every_message_and_every_enum_stands_in_the_document_with_all_its_fields_and_no_others() {
    let (messages, enums) = described();
    assert!(messages.len() > 25 && enums.len() > 3);
    let document = document();
    assert_eq!(table(&document, "| message | fields |"), messages);
    assert_eq!(table(&document, "| enum | values, from 0 |"), enums);
}

/// Leaves out what is code of some language, and none of ours.
fn without_code(document: &str) -> String {
    let mut in_code = false;
    let text = document.lines().filter(|line| {
        match line.strip_prefix("```") {
            Some(language) => in_code = !language.is_empty(),
            None => return !in_code,
        }
        false
    });
    text.collect::<Vec<_>>().join("\n")
}

/// Every `Name{a, b: 1, c{…}}` of text and diagrams: the name, and its fields where they are names.
fn mentions(document: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in document.match_indices('{') {
        let is_name = |c: char| c.is_ascii_alphanumeric();
        let before = &document[..at];
        let name = &before[before.trim_end_matches(is_name).len()..];
        if !name.starts_with(|c: char| c.is_ascii_uppercase()) {
            continue;
        }
        let (mut depth, mut inner) = (0, String::new());
        for c in document[at + 1..].chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                c if depth == 0 => inner.push(c),
                _ => {}
            }
        }
        let field = |part: &str| part.split(':').next().unwrap_or_default().trim().to_owned();
        let is_field = |part: &String| part.starts_with(|c: char| c.is_ascii_lowercase());
        found.push((
            name.to_owned(),
            inner.split(',').map(field).filter(is_field).collect(),
        ));
    }
    found
}

#[test]
fn whatever_the_text_and_the_diagrams_name_is_in_the_proto() {
    let (messages, _) = described();
    // CheckJoin is a call; its message is CheckJoinRequest.
    let message = |name: &str| match name {
        "CheckJoin" => "CheckJoinRequest".to_owned(),
        name => name.to_owned(),
    };
    let mentions = mentions(&without_code(&document()));
    assert!(mentions.len() > 30, "{}", mentions.len());
    for (name, fields) in mentions {
        let known = messages.get(&message(&name));
        let known = known.unwrap_or_else(|| panic!("{name} is no message"));
        for field in fields {
            assert!(known.contains(&field), "{name} has no field {field:?}");
        }
    }
}
