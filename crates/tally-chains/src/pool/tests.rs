use std::sync::atomic::{AtomicUsize, Ordering};

use tally_testkit::Meters;
use tally_types::{BlockRef, Timestamp};

use super::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Well,
    Down,
    Foreign,
    Lying,
    /// It has no answer.
    Blank,
}

struct Fake {
    name: &'static str,
    mood: Mutex<Mood>,
    /// Letters of its branch, a block each.
    branch: Mutex<&'static str>,
    verified: AtomicUsize,
    asked: AtomicUsize,
}

fn hash(branch: &str) -> BlockHash {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let word = branch.bytes().fold(0xcbf2_9ce4_8422_2325, step).to_be_bytes();
    BlockHash::from_display([word; 4].concat().try_into().unwrap())
}

/// The last block of a branch.
fn header(branch: &str) -> Header {
    let block = BlockRef { height: Height::new(branch.len() as u64), hash: hash(branch) };
    Header { block, prev: hash(&branch[..branch.len().saturating_sub(1)]), time: Timestamp::EPOCH }
}

impl Fake {
    fn new(name: &'static str, mood: Mood, branch: &'static str) -> Self {
        Self {
            name,
            mood: Mutex::new(mood),
            branch: Mutex::new(branch),
            verified: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
        }
    }

    fn answer(&self) -> Result<&'static str, Fault> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let fault = |kind, what| Err(Fault::new(kind, format!("{} {what}", self.name)));
        match *self.mood.lock().unwrap() {
            Mood::Well | Mood::Blank => Ok(self.name),
            Mood::Down => fault(FaultKind::Unreachable, "is down"),
            Mood::Foreign => fault(FaultKind::Foreign, "is foreign"),
            Mood::Lying => fault(FaultKind::Contradiction, "lies"),
        }
    }

    fn find(&self, found: impl Fn(&str) -> bool) -> Result<Option<Header>, Fault> {
        self.answer()?;
        if *self.mood.lock().unwrap() == Mood::Blank {
            return Ok(None);
        }
        let branch = *self.branch.lock().unwrap();
        Ok((0..=branch.len()).map(|end| &branch[..end]).find(|part| found(part)).map(header))
    }
}

#[async_trait]
impl Node for Fake {
    fn label(&self) -> &str {
        self.name
    }

    fn authority(&self) -> &str {
        self.name
    }

    async fn verify(&self) -> Result<(), Fault> {
        self.verified.fetch_add(1, Ordering::Relaxed);
        let mood = *self.mood.lock().unwrap();
        match mood {
            // A liar tells the right genesis block.
            Mood::Lying => Ok(()),
            _ => self.answer().map(drop),
        }
    }

    async fn tip(&self) -> Result<Header, Fault> {
        self.answer().map(|_| header(*self.branch.lock().unwrap()))
    }

    async fn at(&self, height: Height) -> Result<Option<Header>, Fault> {
        self.find(|part| part.len() as u64 == height.get())
    }

    async fn header(&self, wanted: BlockHash) -> Result<Option<Header>, Fault> {
        self.find(|part| hash(part) == wanted)
    }
}

fn pool<const N: usize>(members: [(Mood, &'static str); N]) -> Arc<Pool<Fake>> {
    let nodes = ["a", "b", "c"].into_iter().zip(members);
    let nodes = nodes.map(|(name, (mood, branch))| Fake::new(name, mood, branch)).collect();
    Arc::new(Pool::new("btc".parse().unwrap(), nodes))
}

fn set(pool: &Pool<Fake>, index: usize, mood: Mood) {
    *pool.members[index].node.mood.lock().unwrap() = mood;
}

fn grow(pool: &Pool<Fake>, index: usize, branch: &'static str) {
    *pool.members[index].node.branch.lock().unwrap() = branch;
}

fn asked(pool: &Pool<Fake>, index: usize) -> usize {
    pool.members[index].node.asked.load(Ordering::Relaxed)
}

async fn ask(pool: &Pool<Fake>) -> Result<&'static str, String> {
    pool.run(|node, _| async move { node.answer() }).await.map_err(|fault| fault.error.to_string())
}

/// The tip, and who told it.
async fn tip(pool: &Arc<Pool<Fake>>) -> Result<(BlockHash, &'static str), String> {
    let tip = pool.tip().await.map_err(|fault| fault.error.to_string())?;
    Ok((tip.block.hash, pool.current().unwrap().name))
}

#[tokio::test]
async fn the_next_node_takes_over_and_stays() {
    let pool = pool([(Mood::Well, ""), (Mood::Foreign, ""), (Mood::Well, "")]);
    assert_eq!(ask(&pool).await, Ok("a"));
    assert_eq!(ask(&pool).await, Ok("a"));
    assert_eq!(pool.members[0].node.verified.load(Ordering::Relaxed), 1, "verified once while it answers");
    set(&pool, 0, Mood::Down);
    assert_eq!(ask(&pool).await, Ok("c"), "b is of another chain and passed over");
    assert_eq!(pool.switches(), 1);
    set(&pool, 0, Mood::Well);
    assert_eq!(ask(&pool).await, Ok("c"), "no return while c answers");
    set(&pool, 2, Mood::Down);
    assert_eq!(ask(&pool).await, Ok("a"), "for lack of a better one before its rest is over");
    assert_eq!(pool.members[0].node.verified.load(Ordering::Relaxed), 2, "verified again after it failed");
    assert_eq!(pool.switches(), 2);
}

#[tokio::test]
async fn the_first_failure_is_told_if_all_fail() {
    let pool = pool([(Mood::Down, ""), (Mood::Foreign, ""), (Mood::Down, "")]);
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
        let pool = pool(moods.map(|mood| (mood, "")));
        let told = pool.check().await.err().map(|fault| fault.error.to_string());
        assert_eq!(told.as_deref(), outcome, "{name}");
        if outcome.is_none() {
            assert_eq!(ask(&pool).await, Ok(then), "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_liar_is_named_and_left_alone_for_a_while() {
    let counts = Meters::default();
    let _counting = counts.begin();
    let pool = pool([(Mood::Lying, ""), (Mood::Well, "")]);
    assert_eq!(ask(&pool).await, Ok("b"));
    assert_eq!(counts.count("tally_endpoint_faults_total", "chain=btc endpoint=a kind=contradiction"), 1);
    assert_eq!(counts.count("tally_incidents_total", "kind=endpoint_lies"), 1);
    let before = asked(&pool, 0);
    set(&pool, 1, Mood::Down);
    for _ in 0..5 {
        assert_eq!(ask(&pool).await, Err("b is down".to_owned()), "rather nobody than who lies");
    }
    assert_eq!(asked(&pool, 0), before);
    assert_eq!(counts.count("tally_endpoint_faults_total", "endpoint=b kind=unreachable"), 5);
    tokio::time::advance(Duration::from_secs(301)).await;
    set(&pool, 0, Mood::Well);
    assert_eq!(ask(&pool).await, Ok("a"), "its rest is over");
    // Where there is nobody else, who lied is asked on: what it says is checked.
    let alone = self::pool([(Mood::Lying, "")]);
    assert_eq!(ask(&alone).await, Err("a lies".to_owned()));
    set(&alone, 0, Mood::Well);
    assert_eq!(ask(&alone).await, Ok("a"));
}

#[tokio::test]
async fn whoever_takes_over_must_know_the_branch() {
    let long = |letter: &str| -> &'static str { Box::leak(letter.repeat(200).into_boxed_str()) };
    for (name, ours, other, outcome, kind) in [
        ("the same", "abcd", "abcd", Ok(("abcd", "b")), None),
        ("ahead", "abcd", "abcdefgh", Ok(("abcdefgh", "b")), None),
        ("one behind", "abcd", "abc", Ok(("abc", "b")), None),
        ("far behind, and nobody else", "abcd", "a", Ok(("a", "b")), Some("lagging")),
        ("another branch", "abcd", "abxyz", Ok(("abxyz", "b")), None),
        ("at the very beginning", "abcd", "", Ok(("", "b")), Some("lagging")),
        ("a branch from nowhere", long("a"), long("x"), Err("a is down"), Some("unconnected")),
    ] {
        let counts = Meters::default();
        let _counting = counts.begin();
        let pool = pool([(Mood::Well, ours), (Mood::Well, other)]);
        for height in 0..=ours.len() as u64 {
            pool.at(Height::new(height)).await.unwrap();
        }
        assert_eq!(tip(&pool).await, Ok((hash(ours), "a")), "{name}");
        set(&pool, 0, Mood::Down);
        let mut told = tip(&pool).await;
        if kind == Some("lagging") {
            assert!(told.is_err(), "{name}");
            told = tip(&pool).await;
        }
        let outcome = outcome.map(|(branch, who)| (hash(branch), who)).map_err(str::to_owned);
        assert_eq!(told, outcome, "{name}");
        if let Some(kind) = kind {
            assert!(
                counts.count("tally_endpoint_faults_total", &format!("endpoint=b kind={kind}")) > 0,
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_not_known_of_the_branch_is_left_to_the_caller() {
    let pool = pool([(Mood::Well, "abcdefgh"), (Mood::Well, "abcdxyzuvw")]);
    for height in 6..=8 {
        pool.at(Height::new(height)).await.unwrap();
    }
    assert_eq!(tip(&pool).await, Ok((hash("abcdefgh"), "a")));
    set(&pool, 0, Mood::Down);
    assert_eq!(tip(&pool).await, Ok((hash("abcdxyzuvw"), "b")), "the fork is below all that was told");
}

#[tokio::test]
async fn a_node_that_goes_back_is_left_for_one_that_does_not() {
    let pool = pool([(Mood::Well, "abcdef"), (Mood::Well, "abcdef")]);
    for height in 0..=6 {
        pool.at(Height::new(height)).await.unwrap();
    }
    assert_eq!(tip(&pool).await, Ok((hash("abcdef"), "a")));
    grow(&pool, 0, "abc");
    assert_eq!(tip(&pool).await, Ok((hash("abcdef"), "b")));
    // Both: then it is so.
    grow(&pool, 1, "abc");
    let mut told = tip(&pool).await;
    if told.is_err() {
        told = tip(&pool).await;
    }
    assert_eq!(told.unwrap().0, hash("abc"));
    // Alone: the caller sees for itself.
    let alone = self::pool([(Mood::Well, "abcdef")]);
    tip(&alone).await.unwrap();
    grow(&alone, 0, "ab");
    assert_eq!(tip(&alone).await, Ok((hash("ab"), "a")));
}

#[tokio::test]
async fn a_null_is_not_believed_of_what_was_told() {
    let counts = Meters::default();
    let _counting = counts.begin();
    let pool = pool([(Mood::Well, "abcd"), (Mood::Well, "abcd")]);
    tip(&pool).await.unwrap();
    set(&pool, 0, Mood::Blank);
    assert_eq!(pool.header(hash("abcd")).await.unwrap(), Some(header("abcd")));
    assert_eq!(pool.current().unwrap().name, "b");
    let by_height = self::pool([(Mood::Well, "abcd"), (Mood::Well, "abcd")]);
    tip(&by_height).await.unwrap();
    set(&by_height, 0, Mood::Blank);
    assert_eq!(by_height.at(Height::new(3)).await.unwrap(), Some(header("abc")));
    assert_eq!(by_height.current().unwrap().name, "b");
    assert_eq!(counts.count("tally_endpoint_faults_total", "endpoint=a kind=absent"), 2);
    set(&pool, 1, Mood::Blank);
    assert!(pool.at(Height::new(3)).await.is_ok_and(|told| told.is_none()), "if all say so, it is so");
    assert_eq!(pool.header(hash("unheard")).await.unwrap(), None, "what nobody told may be absent");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stands_still_is_left_for_one_that_moves() {
    let counts = Meters::default();
    let _counting = counts.begin();
    let pool = pool([(Mood::Well, "abc"), (Mood::Well, "abc")]);
    assert_eq!(tip(&pool).await, Ok((hash("abc"), "a")));
    grow(&pool, 1, "abcdefgh");
    let mut told = Vec::new();
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        told.push(tip(&pool).await.unwrap());
    }
    let stood = told.iter().take_while(|(_, who)| *who == "a").count();
    assert!((10..=20).contains(&stood), "{stood} s");
    assert_eq!(told.last(), Some(&(hash("abcdefgh"), "b")));
    assert_eq!(counts.count("tally_endpoint_faults_total", "endpoint=a kind=lagging"), 1);
    assert_eq!(pool.switches(), 1);
    assert_eq!(counts.count("tally_endpoint_switches_total", "chain=btc"), 1);
    // A little ahead is nothing.
    let pool = self::pool([(Mood::Well, "abc"), (Mood::Well, "abcde")]);
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(tip(&pool).await.unwrap().1, "a");
    }
}

#[tokio::test]
async fn an_answer_that_comes_late_does_not_switch_back() {
    let pool = pool([(Mood::Well, ""), (Mood::Well, "")]);
    ask(&pool).await.unwrap();
    let gate = tokio::sync::Notify::new();
    let slow = pool.run(|node, _| {
        let gate = &gate;
        async move {
            gate.notified().await;
            Ok(node.name)
        }
    });
    let meanwhile = async {
        set(&pool, 0, Mood::Down);
        assert_eq!(ask(&pool).await, Ok("b"));
        gate.notify_one();
    };
    let (late, ()) = tokio::join!(slow, meanwhile);
    assert_eq!((late.unwrap(), pool.current().unwrap().name, pool.switches()), ("a", "b", 1));
}

#[tokio::test]
async fn an_answer_that_comes_late_does_not_switch_elsewhere() {
    let pool = pool([(Mood::Well, ""), (Mood::Well, ""), (Mood::Well, "")]);
    ask(&pool).await.unwrap();
    let gate = tokio::sync::Notify::new();
    let slow = pool.run(|node, _| {
        let gate = &gate;
        async move {
            if node.name == "a" {
                return Err(Fault::new(FaultKind::Unreachable, "a is down"));
            }
            gate.notified().await;
            Ok(node.name)
        }
    });
    let meanwhile = async {
        set(&pool, 0, Mood::Down);
        set(&pool, 1, Mood::Down);
        assert_eq!(ask(&pool).await, Ok("c"));
        gate.notify_one();
    };
    let (late, ()) = tokio::join!(slow, meanwhile);
    assert_eq!((late.unwrap(), pool.current().unwrap().name, pool.switches()), ("b", "c", 1));
}

/// `b` is ahead of `a` for long enough, but by the time that is found, `a` is not the one in use any more.
#[tokio::test(start_paused = true)]
async fn a_survey_that_comes_late_does_not_switch() {
    let counts = Meters::default();
    let _counting = counts.begin();
    let pool = pool([(Mood::Well, "abc"), (Mood::Well, "abcdefgh"), (Mood::Well, "abc")]);
    assert_eq!(tip(&pool).await, Ok((hash("abc"), "a")));
    pool.look_around(0, Instant::now()).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    lock(&pool.course).current = 2;
    let before = pool.switches();
    pool.look_around(0, Instant::now()).await;
    assert_eq!((pool.current().unwrap().name, pool.switches()), ("c", before));
    assert_eq!(counts.count("tally_endpoint_faults_total", "kind=lagging"), 0, "a is not blamed for it");
    // Had it stayed in use, it would have been left.
    lock(&pool.course).current = 0;
    pool.look_around(0, Instant::now()).await;
    assert_eq!((pool.current().unwrap().name, pool.switches()), ("b", before + 1));
    assert_eq!(counts.count("tally_endpoint_faults_total", "endpoint=a kind=lagging"), 1);
}
