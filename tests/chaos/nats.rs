//! A real NATS server on loopback, killed and started again on the same store.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn binary() -> PathBuf {
    std::env::var_os("NATS_SERVER_BIN").map_or_else(|| "nats-server".into(), Into::into)
}

fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// One server, whose answers mean that what was stored is on the disk.
pub(crate) struct Server {
    port: u16,
    monitor: u16,
    config: PathBuf,
    /// What stands before the host in a URL.
    login: String,
    child: Child,
}

impl Server {
    /// Starts one with its store in `dir`.
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_for(dir, None)
    }

    /// The same, for whoever has this name and password.
    pub(crate) fn start_for(dir: &Path, user: Option<(&str, &str)>) -> Self {
        let [port, monitor] = free_ports();
        let config = dir.join("nats.conf");
        let store = dir.join("nats");
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\n\
             jetstream {{ store_dir: {store:?}, sync_interval: always }}\n"
        );
        let login = user.map(|(name, password)| format!("{name}:{password}@")).unwrap_or_default();
        let text = match user {
            Some((name, password)) => {
                format!("{text}authorization {{ user: {name:?}, password: {password:?} }}\n")
            }
            None => text,
        };
        std::fs::write(&config, text).unwrap();
        let child = spawn(&config);
        let server = Self { port, monitor, config, login, child };
        server.wait();
        server
    }

    fn wait(&self) {
        for _ in 0..300 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the NATS server did not start")
    }

    /// What the product must be told to use it as its log.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let pair = |name: &str, value: String| (name.to_owned(), value);
        vec![
            pair("TALLY_LOG_KIND", "nats".to_owned()),
            pair("TALLY_LOG_URL", format!("[\"nats://{}127.0.0.1:{}\"]", self.login, self.port)),
            pair("TALLY_LOG_MONITOR", format!("[\"http://127.0.0.1:{}\"]", self.monitor)),
        ]
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on what it left behind.
    pub(crate) fn again(&mut self) {
        self.child = spawn(&self.config);
        self.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(config: &Path) -> Child {
    let output =
        std::fs::File::options().create(true).append(true).open(config.with_extension("log")).unwrap();
    Command::new(binary()).arg("-c").arg(config).stdout(Stdio::null()).stderr(output).spawn().unwrap_or_else(
        |error| panic!("{}: {error}; set NATS_SERVER_BIN to a nats-server", binary().display()),
    )
}
