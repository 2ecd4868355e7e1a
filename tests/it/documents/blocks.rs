//! The fenced blocks of a document, and the text between them.

/// A fenced block of a document.
pub struct Block {
    pub language: String,
    pub text: String,
    /// The text between the block before and this one.
    pub before: String,
}

pub fn blocks(document: &str) -> Vec<Block> {
    let (mut found, mut before) = (Vec::new(), String::new());
    let mut open: Option<Block> = None;
    for line in document.lines() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => {
                let before = std::mem::take(&mut before);
                open = Some(Block { language: language.to_owned(), text: String::new(), before });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) => before += &format!("{line}\n"),
        }
    }
    found.push(Block { language: String::new(), text: String::new(), before });
    found
}
