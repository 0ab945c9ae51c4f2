use std::sync::Mutex;

use super::*;

#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Well,
    Down,
    Foreign,
}

struct Fake {
    name: &'static str,
    mood: Mutex<Mood>,
    verified: AtomicUsize,
}

impl Fake {
    fn new(name: &'static str, mood: Mood) -> Self {
        Self { name, mood: Mutex::new(mood), verified: AtomicUsize::new(0) }
    }

    fn answer(&self) -> Result<&'static str, PortError> {
        match *self.mood.lock().unwrap() {
            Mood::Well => Ok(self.name),
            Mood::Down => Err(PortError::transient(format!("{} is down", self.name))),
            Mood::Foreign => Err(PortError::persistent(format!("{} is foreign", self.name))),
        }
    }
}

#[async_trait]
impl Node for Fake {
    fn label(&self) -> &str {
        self.name
    }

    async fn verify(&self) -> Result<(), PortError> {
        self.verified.fetch_add(1, Ordering::Relaxed);
        self.answer().map(drop)
    }
}

fn pool(moods: [Mood; 3]) -> Pool<Fake> {
    let names = ["a", "b", "c"];
    let nodes = names.into_iter().zip(moods).map(|(name, mood)| Fake::new(name, mood)).collect();
    Pool::new("btc".parse().unwrap(), nodes)
}

async fn ask(pool: &Pool<Fake>) -> Result<&'static str, String> {
    pool.run(|node| async move { node.answer() }).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn the_next_node_takes_over_and_stays() {
    let pool = pool([Mood::Well, Mood::Foreign, Mood::Well]);
    assert_eq!(ask(&pool).await, Ok("a"));
    assert_eq!(ask(&pool).await, Ok("a"));
    assert_eq!(pool.members[0].node.verified.load(Ordering::Relaxed), 1, "verified once while it answers");
    *pool.members[0].node.mood.lock().unwrap() = Mood::Down;
    assert_eq!(ask(&pool).await, Ok("c"), "b is of another chain and passed over");
    *pool.members[0].node.mood.lock().unwrap() = Mood::Well;
    assert_eq!(ask(&pool).await, Ok("c"), "no return while c answers");
    *pool.members[2].node.mood.lock().unwrap() = Mood::Down;
    assert_eq!(ask(&pool).await, Ok("a"));
    assert_eq!(pool.members[0].node.verified.load(Ordering::Relaxed), 2, "verified again after it failed");
}

#[tokio::test]
async fn the_first_failure_is_told_if_all_fail() {
    let pool = pool([Mood::Down, Mood::Foreign, Mood::Down]);
    assert_eq!(ask(&pool).await, Err("a is down".to_owned()));
}

#[tokio::test]
async fn a_check_forgives_what_is_unreachable_but_not_what_is_foreign() {
    for (name, moods, outcome, then) in [
        ("all well", [Mood::Well; 3], None, "a"),
        ("first down", [Mood::Down, Mood::Well, Mood::Well], None, "b"),
        ("one foreign", [Mood::Well, Mood::Down, Mood::Foreign], Some("c is foreign"), ""),
        ("all down", [Mood::Down; 3], Some("a is down"), ""),
    ] {
        let pool = pool(moods);
        let told = pool.check().await.err().map(|error| error.to_string());
        assert_eq!(told.as_deref(), outcome, "{name}");
        if outcome.is_none() {
            assert_eq!(ask(&pool).await, Ok(then), "{name}");
        }
    }
}
