//! The product as a process: started, killed, asked over the command line.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a start may take, whatever else the machine does.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Waits for the machine: each of these tests starts and kills the product many times, and two at once would
/// only measure each other.
pub(crate) async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ALONE.lock().await
}

/// A number from the environment.
pub(crate) fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The binary under test.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("TALLY_BIN") {
            return path.into();
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo).args(["build", "--quiet", "-p", "tally"]).status().expect("cargo");
        assert!(built.success(), "the binary is built");
        // Tests lie in `deps` beside it.
        let deps = std::env::current_exe().expect("a path");
        deps.parent().and_then(Path::parent).expect("two folders up").join("tally")
    })
}

/// `tally dev` on a data folder, with whatever it logs kept in a file.
pub(crate) struct Dev {
    child: Child,
    /// What its first line said.
    pub(crate) said: Value,
    /// How long it took from the start until it was ready.
    pub(crate) ready_after: Duration,
}

impl Dev {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// The same with settings in its environment.
    pub(crate) fn start_with(data: &Path, settings: &[(String, String)]) -> Self {
        let log = data.with_extension("log");
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let begin = Instant::now();
        let mut child = Command::new(binary())
            .args(["dev", "--json", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--metrics", "127.0.0.1:0", "--data"])
            .arg(data)
            .envs(settings.iter().cloned())
            .env("RUST_LOG", std::env::var("TALLY_CHAOS_LOG").unwrap_or_else(|_| "debug".to_owned()))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let ready_after = begin.elapsed();
        let said = serde_json::from_str(&line).unwrap_or_else(|_| {
            let _ = child.kill();
            let log = std::fs::read_to_string(data.with_extension("log")).unwrap_or_default();
            let from = log.len().saturating_sub(3_000);
            panic!("tally dev did not start: {line}\n{}", log.get(from..).unwrap_or_default())
        });
        assert!(ready_after < READY_WITHIN);
        Self { child, said, ready_after }
    }

    /// A text of its first line.
    pub(crate) fn text(&self, name: &str) -> String {
        self.said[name].as_str().unwrap_or_else(|| panic!("{name} in {}", self.said)).to_owned()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and its end.
    pub(crate) fn stop(mut self) {
        signal(self.id(), "TERM");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process of ours.
pub(crate) fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status().unwrap();
    assert!(sent.success());
}

/// A configuration for commands on a data folder of `tally dev`, running or not.
pub(crate) fn write_config(to: &Path, data: &Path, secrets: &Path, admin: &str) {
    let admin = admin.trim_start_matches("http://");
    let (data, secrets) = (data.display(), secrets.display());
    let text = format!(
        "public_url = \"http://127.0.0.1:9\"\ndata_dir = \"{data}\"\n[secrets]\nmaster = \"file:{secrets}/master.key\"\n\
         [admin]\nlisten = \"{admin}\"\ntoken = \"file:{secrets}/admin.token\"\n"
    );
    std::fs::write(to, text).unwrap();
}

/// Runs a command to its end.
pub(crate) fn command(config: &Path, args: &[&str]) -> Output {
    Command::new(binary()).args(args).arg("--config").arg(config).output().unwrap()
}

/// The same, where it must succeed; answers what it printed.
pub(crate) fn done(config: &Path, args: &[&str]) -> String {
    let output = command(config, args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tally {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}
