//! Examples for other programs: each is checked by the linter or the schema of that program, and its commands are valid for the
//! copier.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clickhouse_copier::task::{KeeperConfig, SecretSource, Task};

const PROGRAM: &str = "/usr/bin/clickhouse-copier";
const DRILL: &str = "/usr/lib/clickhouse-copier/restore-drill.sh";

fn examples(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(folder)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(examples(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder}");
    files
}

#[track_caller]
fn passes(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{command:?}:\n{said}");
    said
}

#[test]
fn systemd_accepts_the_example_units() {
    let folder = tempfile::tempdir().unwrap();
    let (mut units, mut timers) = (Vec::new(), 0);
    for file in files("systemd") {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        // The examples name the installed program; here it is replaced by the tested one.
        let text = read(&file).replace(PROGRAM, env!("CARGO_BIN_EXE_clickhouse-copier")).replace(DRILL, "/bin/true");
        fs::write(folder.path().join(&name), text).unwrap();
        timers += usize::from(name.ends_with(".timer"));
        units.push(folder.path().join(name.replace("@.", "@hits.")));
    }
    assert_eq!((units.len(), timers), (5, 2), "{units:?}");
    let verify = lab::debian("systemd-analyze", "systemd").unwrap();
    let said = passes(Command::new(verify).args(["verify", "--man=no", "--recursive-errors=no"]).args(&units));
    // Its output also has messages about other units of this machine.
    let ours = said.lines().find(|line| line.contains("clickhouse-copier"));
    assert_eq!(ours, None, "{said}");
}

#[test]
fn docker_compose_accepts_the_example_clusters() {
    let compose = lab::debian("docker-compose", "docker-compose").unwrap();
    let mut compose = Command::new(compose);
    compose.args(["--file", "docker-compose.yml", "config"]).current_dir(examples("docker-compose"));
    let shown = passes(compose.env("COPIER_PASSWORD", "secret"));
    for name in ["zookeeper:", "source:", "target-1:", "target-2:", "worker:"] {
        assert!(shown.lines().any(|line| line.trim() == name), "no {name} in\n{shown}");
    }
    for file in ["source.sql", "keeper.xml", "task.xml", "../../packaging/Dockerfile"] {
        assert!(examples("docker-compose").join(file).is_file(), "{file}");
    }
}

#[test]
fn kubernetes_accepts_the_example_job() {
    let file = examples("kubernetes").join("copy.yaml");
    let said = passes(lab::kubernetes_validate().unwrap().arg("--strict").arg(file));
    for kind in ["secret/", "configmap/", "job/"] {
        assert!(said.contains(&format!("passed for resource {kind}clickhouse-copy")), "{said}");
    }
}

#[test]
fn cron_accepts_the_example_lines() {
    let text = read(&examples("cron.d").join("clickhouse-copier"));
    let is_variable = |line: &&str| line.split_once('=').is_some_and(|(name, _)| !name.contains(' '));
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#') && !is_variable(line));
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len(), 2);
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        for (word, range) in words.iter().zip([0..60, 0..24, 1..32, 1..13, 0..8]) {
            assert!(
                *word == "*" || word.parse::<u32>().is_ok_and(|number| range.contains(&number)),
                "{word} in {line}"
            );
        }
        assert_eq!(words[5], "clickhouse-copier", "the user: {line}");
        // In cron a percent sign ends the command.
        assert!(!line.contains('%') && text.ends_with('\n'), "{line}");
        passes(Command::new("sh").args(["-n", "-c", &words[6..].join(" ")]));
    }
}

/// Secrets by the names of their variables.
struct Named;

impl SecretSource for Named {
    fn env(&self, name: &str) -> Option<String> {
        Some(format!("value of {name}"))
    }

    fn read_file(&self, path: &str) -> std::io::Result<String> {
        fs::read_to_string(path)
    }
}

#[test]
fn examples_use_valid_task_files_and_existing_flags() {
    let manifest = read(&examples("kubernetes").join("copy.yaml"));
    let block = |name: &str| -> String {
        let (_, rest) = manifest.split_once(&format!("  {name}: |\n")).unwrap();
        rest.lines().take_while(|line| line.starts_with("    ")).collect()
    };
    let compose = |name: &str| read(&examples("docker-compose").join(name));
    for text in [block("task.xml"), compose("task.xml")] {
        let parsed = Task::parse(&text, &Named).unwrap();
        assert_eq!((parsed.task.tables.len(), parsed.warnings.len()), (1, 0), "{:?}", parsed.warnings);
    }
    for text in [block("keeper.xml"), compose("keeper.xml")] {
        KeeperConfig::parse(&text, &Named).unwrap();
    }
    let help = passes(Command::new(env!("CARGO_BIN_EXE_clickhouse-copier")).args(["run", "--help"]));
    let others = [examples("docker-compose").join("docker-compose.yml"), examples("kubernetes").join("copy.yaml")];
    let mut seen = 0;
    for file in files("systemd").into_iter().chain(files("cron.d")).chain(others) {
        let text = read(&file);
        // Returns the command lines of the program.
        let ours = text.lines().filter(|line| !line.contains("restore-drill") && !line.trim_start().starts_with('#'));
        let ours = ours.filter(|line| !line.contains("-- --task-file"));
        for flag in
            ours.flat_map(|line| line.split([' ', '='])).filter(|word| word.starts_with("--") && !word.ends_with('-'))
        {
            let known = help.lines().any(|line| line.split([' ', ',', ']']).any(|word| word == flag));
            assert!(known, "{}: {flag}", file.display());
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}
