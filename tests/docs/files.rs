//! The program accepts the files that documents show.

use clickhouse_copier::task::{GivenSecrets, KeeperConfig, Task};

use super::documents;

/// Returns the text of all fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(String, bool)> = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        match (&mut open, trimmed.strip_prefix("```")) {
            (None, Some(begun)) => open = Some((String::new(), begun == language)),
            (Some(_), Some(_)) => found.extend(open.take().filter(|(_, ours)| *ours).map(|(text, _)| text)),
            (Some((block, _)), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

#[test]
fn xml_files_in_the_documents_are_accepted_without_warnings() {
    let secrets =
        GivenSecrets { env: [("BACKUP_PASSWORD".to_owned(), "b4ckup".to_owned())].into(), ..GivenSecrets::default() };
    let mut count = 0;
    for (file, text) in documents() {
        for block in blocks(&text, "xml") {
            count += 1;
            let warnings = match block.contains("<zookeeper>") {
                true => KeeperConfig::parse(&block, &secrets).map(|(_, warnings)| warnings),
                false => Task::parse(&block, &secrets).map(|parsed| parsed.warnings),
            };
            let warnings = warnings.unwrap_or_else(|faults| panic!("{file}: {faults}\n{block}"));
            let texts: Vec<String> = warnings.iter().map(ToString::to_string).collect();
            assert!(texts.is_empty(), "{file}: {texts:?}\n{block}");
        }
    }
    assert!(count >= 3, "{count} files are shown");
}
