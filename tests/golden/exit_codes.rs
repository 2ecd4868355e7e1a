//! Exit codes. Which ending of a run has which code is tested beside the code, in `src/cli/work.rs` and its neighbours.

use clickhouse_copier::cli::Exit;

use super::check;

#[test]
fn exit_codes_keep_their_numbers() {
    let all = [Exit::Done, Exit::Failed, Exit::BadInput, Exit::Partial, Exit::Different, Exit::Interrupted];
    for exit in all {
        // Another code has no place in the list below.
        match exit {
            Exit::Done | Exit::Failed | Exit::BadInput | Exit::Partial | Exit::Different | Exit::Interrupted => {}
        }
        assert_eq!(Exit::from_code(exit as i32), exit);
    }
    let lines: Vec<String> = all.into_iter().map(|exit| format!("{exit:?} {}", exit as u8)).collect();
    check("exit-codes.txt", &lines.join("\n"));
}
