//! The command line beyond what the other tests use of it on their way.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use crate::server::{Server, project, run, send_signal};

/// A command with the data folder of a server, or of none.
fn lastframe(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastframe"));
    command.args(arguments).env("LASTFRAME_DATA", data).env_remove("LASTFRAME_SERVER");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Its exit code, and what it printed.
fn ended(command: Child) -> (i32, String, String) {
    let output = command.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Reads until a line holds `part`, and gives the line.
fn await_line(reader: &mut impl std::io::BufRead, part: &str) -> String {
    let mut all = String::new();
    for line in reader.lines() {
        let line = line.unwrap();
        if line.contains(part) {
            return line;
        }
        all.push_str(&line);
    }
    panic!("no {part} in {all}");
}

/// The id in "render ID accepted by URL".
fn accepted(line: &str) -> String {
    line.split_whitespace().nth(1).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn render_where_no_server_runs_makes_one_of_its_own_and_leaves_nothing_running() {
    let mut server = Server::start().await;
    // A server that was killed leaves its address behind.
    server.signal("KILL");
    server.exit().await;
    assert!(server.data.path().join("address").exists());
    let file = server.data.path().join("out/tiny.mp4");

    let (exit, told, notes) =
        run(&server, &["render", "test", "tiny", "--json", "-o", file.to_str().unwrap()]);
    assert_eq!(exit, 0, "{notes}");
    assert!(notes.contains("no server runs; rendering here"), "{notes}");
    let render: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&render["status"], &render["outputSizeInBytes"]),
        (&json!("succeeded"), &json!(file.metadata().unwrap().len()))
    );
    assert!(!server.data.path().join("address").exists());
    assert_eq!(server.sidecar_processes(), [].into());

    let (exit, _, why) = run(&server, &["render", "test", "throws"]);
    assert!(exit == 1 && why.contains("component_error"), "{exit} {why}");
    let (exit, _, why) = run(&server, &["render", "test", "tiny", "--set", "crf=99"]);
    assert!(exit == 3 && why.contains("/crf"), "{exit} {why}");
    let (exit, _, why) = run(&server, &["render", "test", "tiny", "--detach"]);
    assert!(exit == 4 && why.contains("lastframe serve"), "{exit} {why}");
    let (exit, _, why) =
        run(&server, &["render", "test", "tiny", "--server", "http://127.0.0.1:1", "--token", "t"]);
    assert_eq!(exit, 4, "{why}");
    assert_eq!(run(&server, &["list"]).0, 4, "only renders make a server");
}

#[test]
fn a_project_folder_is_bundled_and_rendered_on_a_data_folder_that_was_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("frame.png"));
    let project = project();
    let arguments = [
        "still",
        project.to_str().unwrap(),
        "main",
        "--frame",
        "-1",
        "--set",
        "scale=0.1",
        "-o",
        file.to_str().unwrap(),
    ];
    let (exit, told, notes) = ended(lastframe(&data, &arguments).spawn().unwrap());
    assert_eq!(exit, 0, "{told}{notes}");
    assert!(notes.contains("as the site remotion-app") && told.contains("192x108"), "{told}{notes}");
    assert!(std::fs::read(file).unwrap().starts_with(b"\x89PNG"));

    let nowhere = ended(lastframe(&data, &["render", "./nowhere", "main"]).spawn().unwrap());
    assert!(nowhere.0 == 2 && nowhere.2.contains("no project at ./nowhere"), "{nowhere:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_without_a_terminal_leaves_the_render_to_the_server_and_says_how_to_cancel() {
    let server = Server::start().await;
    let props = r#"{"frames":60,"msPerFrame":50}"#;
    let mut render =
        lastframe(server.data.path(), &["render", "test", "slow", "--props", props]).spawn().unwrap();
    let mut notes = BufReader::new(render.stderr.take().unwrap());
    let id = accepted(&await_line(&mut notes, "accepted by"));
    await_line(&mut notes, "frames");
    send_signal("INT", i32::try_from(render.id()).unwrap());
    let said = await_line(&mut notes, "interrupted");
    assert!(said.contains(&format!("lastframe cancel {id}")), "{said}");
    assert_eq!(ended(render).0, 130);
    assert_eq!(server.render(&id).await["cancelRequestedAt"], Value::Null);
    let (exit, told, _) = run(&server, &["cancel", &id, "--json"]);
    assert!(exit == 0 && serde_json::from_str::<Value>(&told).is_ok(), "{told}");
    assert_eq!(server.ended(&id).await["status"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_where_the_server_is_within_cancels_because_nobody_would_go_on() {
    let mut server = Server::start().await;
    server.signal("TERM");
    assert!(server.exit().await.success());
    let props = r#"{"frames":60,"msPerFrame":50}"#;
    let mut render =
        lastframe(server.data.path(), &["render", "test", "slow", "--props", props]).spawn().unwrap();
    let mut notes = BufReader::new(render.stderr.take().unwrap());
    let id = accepted(&await_line(&mut notes, "accepted by"));
    await_line(&mut notes, "frames");
    send_signal("INT", i32::try_from(render.id()).unwrap());
    await_line(&mut notes, "is cancelled");
    assert_eq!(ended(render).0, 130);
    assert_eq!(server.sidecar_processes(), [].into());
    let server = Server::on(server.give_up_data()).await;
    assert_eq!(server.ended(&id).await["status"], "cancelled");
}

/// A command in a terminal, and that terminal's other end.
pub(crate) fn in_a_terminal(mut command: Command) -> (Child, std::fs::File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let theirs = ptsname(&ours, Vec::new()).unwrap();
    let theirs = std::fs::OpenOptions::new().read(true).write(true).open(theirs.to_str().unwrap()).unwrap();
    let theirs = || -> OwnedFd { theirs.try_clone().unwrap().into() };
    let child = command.stdin(theirs()).stdout(theirs()).stderr(theirs()).spawn().unwrap();
    (child, ours.into())
}

/// Reads from a terminal until it has shown `part`.
pub(crate) fn await_shown(terminal: &mut std::fs::File, part: &str) -> String {
    let (mut shown, mut bytes) = (String::new(), [0; 4096]);
    while !shown.contains(part) {
        let count = terminal.read(&mut bytes).unwrap_or_else(|error| panic!("{error} after {shown}"));
        shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_in_a_terminal_asks_and_no_goes_on_and_a_second_one_leaves_and_yes_cancels() {
    let server = Server::start().await;
    let arguments = ["render", "test", "slow", "--props", r#"{"frames":400,"msPerFrame":50}"#];
    let start = || in_a_terminal(lastframe(server.data.path(), &arguments));
    let interrupt = |child: &Child| send_signal("INT", i32::try_from(child.id()).unwrap());

    let (mut leaving, mut terminal) = start();
    let shown = await_shown(&mut terminal, "frames");
    let id = accepted(shown.lines().find(|line| line.contains("accepted by")).unwrap());
    interrupt(&leaving);
    await_shown(&mut terminal, "Cancel the render?");
    terminal.write_all(b"n\n").unwrap();
    // The bar is drawn once more below the question; a second time only when the answer was read and following goes on.
    await_shown(&mut terminal, "frames");
    await_shown(&mut terminal, "frames");
    interrupt(&leaving);
    await_shown(&mut terminal, "Cancel the render?");
    interrupt(&leaving);
    await_shown(&mut terminal, &format!("lastframe cancel {id}"));
    assert_eq!(leaving.wait().unwrap().code(), Some(130));
    assert_eq!(server.render(&id).await["cancelRequestedAt"], Value::Null);
    assert_eq!(run(&server, &["cancel", &id]).0, 0);

    let (mut cancelling, mut terminal) = start();
    await_shown(&mut terminal, "frames");
    interrupt(&cancelling);
    await_shown(&mut terminal, "Cancel the render?");
    terminal.write_all(b"y\n").unwrap();
    await_shown(&mut terminal, "cancelled");
    assert_eq!(cancelling.wait().unwrap().code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_follows_all_that_is_open_and_its_exit_code_tells_whether_all_went_well() {
    let server = Server::start().await;
    let (exit, _, notes) = run(&server, &["watch"]);
    assert!(exit == 0 && notes.contains("nothing is queued"), "{notes}");

    let good = server.submit("tiny", json!({"queue": {"group": "g"}})).await;
    let bad = server.submit("throws", json!({"queue": {"group": "g"}})).await;
    let (exit, told, _) = run(&server, &["watch", "--json"]);
    assert_eq!(exit, 1, "{told}");
    let last = |id: &str| {
        let lines = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.rev().find(|render| render["renderId"] == id).unwrap()
    };
    assert_eq!((&last(&good)["status"], &last(&bad)["status"]), (&json!("succeeded"), &json!("failed")));

    let (exit, told, _) = run(&server, &["watch", &good]);
    assert!(exit == 0 && told.contains("10 frames"), "{told}");
    assert_eq!(run(&server, &["watch", "nonsense"]).0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_commands_print_with_json_is_json_and_nothing_else() {
    let server = Server::start().await;
    let id = server.submit("tiny", json!({"queue": {"runAt": "2999-01-01T00:00:00Z"}})).await;
    let file = server.data.path().join("kept.db");
    let commands: [&[&str]; 17] = [
        &["show", &id],
        &["list"],
        &["cancel", &id],
        &["retry", &id],
        &["redrive", "--all"],
        &["render", "test", "tiny", "--detach"],
        &["still", "test", "tiny"],
        &["site", "list"],
        &["queue", "pause"],
        &["queue", "drain"],
        &["queue", "resume"],
        &["tenant", "set", "default", "--weight", "2"],
        &["token", "create", "--name", "ci"],
        &["token", "rotate-keys"],
        &["whoami"],
        &["check"],
        &["backup", file.to_str().unwrap()],
    ];
    for command in commands {
        let (exit, told, why) = run(&server, &[command, &["--json"]].concat());
        assert_eq!(exit, 0, "{command:?}: {why}");
        assert!(serde_json::from_str::<Value>(&told).is_ok(), "{command:?}: {told}");
    }
}

#[test]
fn shells_take_the_completions_and_the_manual_has_a_page_for_each_command() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let (exit, script, _) = ended(lastframe(folder.path(), &["completions", shell]).spawn().unwrap());
        assert!(exit == 0 && script.contains("redrive") && !script.contains("panic"), "{script}");
        if shell == "bash" {
            let file = folder.path().join("lastframe.bash");
            std::fs::write(&file, script).unwrap();
            assert!(Command::new("bash").arg("-n").arg(file).status().unwrap().success());
        }
    }
    let man = folder.path().join("man1");
    assert_eq!(ended(lastframe(folder.path(), &["man", man.to_str().unwrap()]).spawn().unwrap()).0, 0);
    for page in ["lastframe.1", "lastframe-render.1", "lastframe-site-add.1", "lastframe-doctor.1"] {
        let text = std::fs::read_to_string(man.join(page)).unwrap();
        assert!(text.contains(".TH lastframe"), "{page}: {text}");
    }
    assert!(!man.join("lastframe-supervise.1").exists());
}
