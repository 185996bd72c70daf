use super::*;
use std::time::Instant;

/// A service manager's socket.
struct Manager {
    socket: UnixDatagram,
    name: String,
    _dir: tempfile::TempDir,
}

fn manager() -> Manager {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join("notify").to_str().unwrap().to_owned();
    let socket = UnixDatagram::bind(&name).unwrap();
    socket.set_nonblocking(true).unwrap();
    Manager {
        socket,
        name,
        _dir: dir,
    }
}

impl Manager {
    fn heard(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut text = [0; 4096];
        while let Ok(n) = self.socket.recv(&mut text) {
            all.push(String::from_utf8(text[..n].to_vec()).unwrap());
        }
        all
    }
}

#[tokio::test]
async fn a_manager_hears_ready_status_reload_and_stop_in_the_words_of_sd_notify() {
    let manager = manager();
    let supervisor = Supervisor::new(&manager.name, None).unwrap();
    supervisor.ready().await;
    supervisor.status("3 rooms");
    supervisor.note("; reload refused:\n1 mistake");
    supervisor.reloading(Mono(5_000_000));
    supervisor.status("4 rooms");
    supervisor.stopping();
    assert_eq!(
        manager.heard(),
        [
            "READY=1",
            "STATUS=3 rooms",
            "RELOADING=1\nMONOTONIC_USEC=5000",
            "STATUS=4 rooms; reload refused: 1 mistake",
            "STOPPING=1",
        ]
    );
}

#[test]
fn the_watchdog_is_told_four_times_in_its_span_and_only_by_ticks() {
    let manager = manager();
    let supervisor = Supervisor::new(&manager.name, Some("8000000")).unwrap();
    let second = |s: u64| Mono(1_000_000_000_000 + s * 1_000_000_000);
    for s in 0..8 {
        supervisor.ticked(second(s));
    }
    assert_eq!(manager.heard(), ["WATCHDOG=1"; 4]);
    assert!(manager.heard().is_empty());
}

#[test]
fn without_a_watchdog_a_tick_is_not_told() {
    let manager = manager();
    let supervisor = Supervisor::new(&manager.name, None).unwrap();
    supervisor.ticked(Mono(1_000_000_000_000));
    assert!(manager.heard().is_empty());
}

#[test]
fn an_abstract_socket_is_reached() {
    let name = format!("voice-agent-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    Supervisor::new(&format!("@{name}"), None).unwrap().stopping();
    let mut text = [0; 64];
    let n = socket.recv(&mut text).unwrap();
    assert_eq!(&text[..n], b"STOPPING=1");
}

#[test]
fn a_manager_that_does_not_read_never_makes_the_driver_wait_and_hears_of_the_next_tick() {
    let manager = manager();
    let supervisor = Supervisor::new(&manager.name, Some("4000000")).unwrap();
    while supervisor.tell("STATUS=full").is_ok() {}
    let began = Instant::now();
    let second = |s: u64| Mono(1_000_000_000_000 + s * 1_000_000_000);
    supervisor.ticked(second(0));
    assert!(began.elapsed() < Duration::from_millis(100));
    assert!(!manager.heard().is_empty());
    // Not told, so not put off until the next quarter of the span.
    supervisor.ticked(second(0));
    assert_eq!(manager.heard(), ["WATCHDOG=1"]);
}

#[test]
fn a_socket_that_is_not_there_and_a_watchdog_that_is_no_number_are_named() {
    let said = Supervisor::new("/nowhere/notify", None).unwrap_err().to_string();
    assert!(said.contains("/nowhere/notify"), "{said}");
    for wrong in ["soon", "0", "-1"] {
        let said = Supervisor::new("@x", Some(wrong)).unwrap_err().to_string();
        assert!(said.contains(wrong), "{said}");
    }
}
