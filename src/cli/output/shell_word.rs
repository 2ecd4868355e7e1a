//! Quotes words of commands that can be pasted into a shell.

/// Returns a text as one word of a shell's command line.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:@+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::shell_word;

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        assert_eq!(shell_word("/copy/hits-1"), "/copy/hits-1");
        assert_eq!(shell_word("/my task's"), r"'/my task'\''s'");
        assert_eq!(shell_word("$(reboot)"), "'$(reboot)'");
    }
}
