//! A load run: servers, processes, the history's file, and what is seen while it goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::binding;
use super::check::{self, CheckError};
use super::children::{Children, Common};
use super::clock::{monotonic, started};
use super::figures::Figures;
use super::job::{Role, Sorts, scenario as in_real_time};
use super::machine::{Server, cpu_of};
use super::nemesis::Nemesis;
use super::offer::Offer;
use super::options::{LoadOptions, LoadReport};
use super::plan::{OF_SERVICES, Private};
use super::process::SIGNALS;
use super::remote::Permits;
use super::{gauge, remote};
use crate::run::any_workload::{AnyWorkload, Facts};
use crate::run::live::chaos::{Chaos, Chaotic};
use crate::run::live::lookout::{Lookout, within};
use crate::run::live::services::FakeServices;
use crate::run::live::{LiveError, LiveWorld, Servers, reading, runtime, silent};
use crate::run::plan::{self, Plan};
use crate::scenario::Scenario;
use crate::team::workload::Workload;
use crate::watch::file::{Appender, End, Record, Records, Row, Start};
use redeliver_core::env::live::LiveEnv;
use redeliver_core::ports::env::{Timestamp, nanos};
use redeliver_core::ports::{Transport, TransportError};
use redeliver_postgres::ReadRow;
use redeliver_sim::fault::{Event, Kind};

/// Runs a scenario under load.
///
/// # Errors
/// [`LiveError::Environment`] when a server does not answer or refuses, or the history cannot be
/// written.
pub fn load<L: Workload>(
    workload: &L,
    scenario: &Scenario,
    options: &LoadOptions,
) -> Result<LoadReport, LiveError> {
    let shared: Arc<dyn AnyWorkload<LiveWorld>> = Arc::new(workload.clone());
    let runtime = runtime()?;
    let ran = runtime.block_on(run(&shared, scenario, options));
    // Tasks that hang in a driver must not keep the process from ending.
    runtime.shutdown_timeout(Duration::from_secs(2));
    let left_behind = ran?;
    let checked = check::check(workload, &options.history).map_err(|error| match error {
        CheckError::File(error) => LiveError::Environment(error.to_string()),
        CheckError::Other(why) => LiveError::Other(why),
    })?;
    Ok(LoadReport {
        checked,
        left_behind,
    })
}

/// The scenario as all parts of a run have it, and the text from which the processes make it again.
fn texts(
    workload: &dyn Facts,
    scenario: &Scenario,
    options: &LoadOptions,
) -> Result<(Scenario, String), LiveError> {
    // What is offered is told beside it: a recording need not be where its processes look.
    let told = Scenario {
        arrivals: None,
        ..scenario.clone()
    };
    let text = told.to_toml();
    let queues = options.live.queue_type.unwrap_or(scenario.queue_type);
    let real = in_real_time(workload, (&scenario.name, &text), queues)?;
    let allowed = |check| scenario.allow.contains(&check);
    let contradictions = real.policy.contradictions();
    match contradictions
        .into_iter()
        .find(|found| !allowed(found.check))
    {
        Some(found) => Err(LiveError::Other(format!("in real time, {found}"))),
        None => Ok((real, text)),
    }
}

async fn run(
    workload: &Arc<dyn AnyWorkload<LiveWorld>>,
    scenario: &Scenario,
    options: &LoadOptions,
) -> Result<Option<String>, LiveError> {
    let (real, text) = texts(&**workload, scenario, options)?;
    let offer = Offer {
        rate: options.rate,
        lasts: options.lasts,
        pattern: options.pattern.clone(),
        seed: options.live.seed,
    };
    if offer.requests() == 0 {
        let (rate, lasts) = (offer.rate, offer.lasts.as_secs_f64());
        return Err(LiveError::Other(format!(
            "{rate} for {lasts} s is no request at all"
        )));
    }
    check::distinct(&**workload, &offer)?;
    let poison = check::sorts(&**workload, &real, &offer);
    let topology = plan::topology(&**workload, &real);
    topology
        .check()
        .map_err(|error| LiveError::Other(error.to_string()))?;
    let servers = Servers::connect(&**workload, &real, &options.live)?;
    // Before anything is made anywhere.
    servers.reach_broker(options.live.patience).await?;
    let file = Appender::create(&options.history).map_err(|error| {
        let path = options.history.display();
        LiveError::Environment(format!("{path}: {error}: choose another file by --history"))
    })?;
    let patience = options.live.patience;
    let make = tokio::time::timeout(patience, servers.database.make());
    make.await
        .unwrap_or_else(|_| Err(silent("PostgreSQL", patience)))?;
    let declare = servers.rabbit();
    let declare = tokio::time::timeout(patience, declare.declare(&topology));
    let declared = match declare.await {
        Ok(declared) => declared.map_err(LiveError::from),
        Err(_) => Err(silent("RabbitMQ", patience)),
    };
    let setting = Setting {
        workload: workload.clone(),
        scenario: real,
        text,
        offer,
        poison,
        private: Private::of(&servers),
        servers,
        file,
        options: options.clone(),
    };
    let played = match declared {
        Ok(()) => setting.play().await,
        Err(error) => Err(error),
    };
    let left_behind = setting.servers.clean_up(&topology).await;
    // Processes that had nothing to say have left an empty file.
    let log = super::children::log_of(&setting.options.history);
    if log.metadata().is_ok_and(|log| log.len() == 0) {
        let _ = std::fs::remove_file(log);
    }
    match played {
        Ok(()) => Ok(left_behind),
        Err(LiveError::Environment(why) | LiveError::Away { why, .. }) => {
            Err(LiveError::Away { why, left_behind })
        }
        Err(other) => Err(other),
    }
}

/// Everything of a run that does not change.
struct Setting {
    workload: Arc<dyn AnyWorkload<LiveWorld>>,
    scenario: Scenario,
    text: String,
    offer: Offer,
    poison: Sorts,
    private: Private,
    servers: Servers,
    file: Appender,
    options: LoadOptions,
}

/// How often processes and file are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How often servers are.
const GAUGE: Duration = Duration::from_secs(1);
/// Faults that take a server away.
const SERVERS: [Kind; 3] = [Kind::BrokerRestart, Kind::BrokerKill, Kind::FailOver];
/// So long a server may take to be back, on a busy machine, after such a fault.
const RESTART: Duration = Duration::from_secs(120);
/// From the word that everything works to the first request.
const LEAD: Duration = Duration::from_millis(300);

impl Setting {
    fn plan(&self) -> Plan {
        let first = self.offer.requests_of(&*self.workload, 0).1;
        let first = first.into_iter().take(1).collect();
        Plan::of_load(&*self.workload, &self.scenario, first, &self.poison)
    }

    fn now(&self, since: u64) -> u64 {
        monotonic().saturating_sub(since)
    }

    async fn play(&self) -> Result<(), LiveError> {
        let since = monotonic();
        let plan = Arc::new(self.plan());
        let versions =
            tokio::time::timeout(self.options.live.patience, gauge::versions(&self.servers));
        let versions = versions.await.unwrap_or_default();
        let start = self.start(versions);
        self.file.append(&Record::Start(Box::new(start)));
        let services = plan::services(&*self.workload, &self.scenario);
        let services = FakeServices::new(services, self.offer.seed, started(since))
            .remembering(self.keys_live());
        let timed = self
            .private
            .timed(&self.scenario, self.offer.seed, self.offer.lasts);
        let (chaos, services) = self.chaos(since, &timed, services);
        let services = remote::serve(services, Permits::of(&self.scenario)).await;
        let services = services.map_err(|error| LiveError::Environment(error.to_string()))?;
        let common = Common {
            command: self.options.command.clone(),
            live: self.options.live.clone(),
            workload: self.workload.name(),
            scenario: (self.scenario.name.clone(), self.text.clone()),
            queues: self.scenario.queue_type,
            history: self.options.history.clone(),
            file: self.file.clone(),
            services,
            started: since,
            offer: self.offer.clone(),
            poison: self.poison.clone(),
            real: Arc::new(self.scenario.clone()),
            servers: self.servers.clone(),
            traced: self.options.follow.is_some(),
            proxies: Arc::default(),
            chaos,
        };
        let mut live = self.options.live.clone();
        if timed.iter().any(|event| SERVERS.contains(&event.kind)) {
            live.patience += RESTART;
        }
        let lookout = Lookout::new(&self.servers, &live);
        tokio::select! {
            acted = self.act(&plan, common, (since, timed)) => acted,
            gone = lookout.gone() => {
                self.end(since, End::default());
                Err(LiveError::Away { why: gone, left_behind: None })
            }
        }
    }

    fn start(&self, servers: Vec<(String, String)>) -> Start {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Start {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: self.options.commit.clone(),
            began: Timestamp(nanos(wall)),
            name: self.options.live.name.clone(),
            scenario: self.scenario.name.clone(),
            workload: self.scenario.workload.clone(),
            text: self.text.clone(),
            classic_queues: self.scenario.queue_type
                == redeliver_core::topology::QueueType::Classic,
            seed: self.offer.seed,
            rate: self.offer.rate.0,
            pattern: self.offer.pattern.clone(),
            lasts: nanos(self.offer.lasts),
            requests: self.offer.requests(),
            cores: std::thread::available_parallelism()
                .map_or(1, |it| u32::try_from(it.get()).unwrap_or(u32::MAX)),
            producers: self.options.producers.max(1),
            servers,
        }
    }

    fn end(&self, since: u64, end: End) {
        let end = End {
            wall: self.now(since),
            not_given: self
                .private
                .not_given(&self.scenario, self.offer.seed, self.offer.lasts),
            planned: self
                .private
                .planned(&self.scenario, self.offer.seed, self.offer.lasts),
            ..end
        };
        self.file.append(&Record::End(end));
    }

    fn roles(&self, plan: &Plan) -> Vec<(String, Role)> {
        let mut roles = Vec::new();
        for i in 1..=self.scenario.relays {
            roles.push((format!("relay-{i}"), Role::Relay));
        }
        for subscription in &plan.topology.subscriptions {
            for i in 1..=self.scenario.worker_processes {
                let consumer = &subscription.consumer;
                roles.push((format!("{consumer}-{i}"), Role::Worker(consumer.clone())));
            }
        }
        let of = u64::from(self.options.producers.max(1));
        for number in 0..of {
            let role = Role::Producer { number, of };
            roles.push((format!("client-{}", number + 1), role));
        }
        roles
    }

    fn follow(&self) -> Result<Records, LiveError> {
        Records::follow(&self.options.history)
            .map_err(|error| LiveError::Environment(format!("the history: {error}")))
    }

    /// The faults that the harness's own process gives: those of the outside services, and of starts
    /// that take long.
    fn chaos(
        &self,
        since: u64,
        timed: &[Event],
        services: FakeServices,
    ) -> (Arc<Chaos>, Chaotic<FakeServices>) {
        let kinds = [&OF_SERVICES[..], &[Kind::SlowStart]].concat();
        let down = timed.iter().filter(|event| event.kind == Kind::ServiceDown);
        let chaos = Chaos::of_kinds(&self.scenario, self.offer.seed, started(since), &kinds)
            .of_process(self.file.clone(), SIGNALS, None)
            .with_events(down.cloned().collect());
        let chaos = Arc::new(chaos);
        let env = LiveEnv::process_since("services", 0, started(since));
        let services = Chaotic::new(services.note_in(self.file.clone()), chaos.of(&env));
        (chaos, services)
    }

    async fn act(
        &self,
        plan: &Arc<Plan>,
        common: Common,
        (since, timed): (u64, Vec<Event>),
    ) -> Result<(), LiveError> {
        let roles = self.roles(plan);
        let (proxies, chaos) = (common.proxies.clone(), common.chaos.clone());
        let mut children = Children::start(common, roles, self.scenario.restart_after).await?;
        let begin = self.now(since) + nanos(LEAD);
        self.file.append(&Record::Begin { at: begin });
        chaos.begin(begin);
        children.go(begin).await;
        self.send_strangers(plan, since);
        let mut view = View {
            tail: self.follow()?,
            figures: Figures::new(self.start(Vec::new()), &plan.topology)
                .bounded_by(&self.scenario.policy),
            gauged: Instant::now(),
            rest: Rest::default(),
            healed: false,
            nemesis: Nemesis::new(
                (self.file.clone(), since, begin),
                (timed, self.offer.seed),
                self.private.clone(),
                proxies,
            ),
            chaos,
            servers: [
                (binding::BROKER, Server::at(self.servers.amqp.place())),
                (binding::DATABASE, Server::at(self.servers.database.place())),
            ],
            setting: self,
            plan: plan.clone(),
            since,
        };
        let settled = view.go_on(&mut children, begin).await;
        let (settled, stopped) = match settled {
            Ok(settled) => (settled, self.is_stopped() && !settled),
            Err(error) => {
                children.stop(Duration::ZERO).await;
                return Err(error);
            }
        };
        let drain = self.scenario.policy.consumer.drain + Duration::from_secs(2);
        for late in children.stop(drain).await {
            (self.options.live.tell)(&format!("{late} did not stop in time and was killed"));
        }
        self.read(plan).await?;
        self.end(
            since,
            End {
                settled,
                stopped,
                read: true,
                ..End::default()
            },
        );
        match self.file.failure() {
            None => Ok(()),
            Some(why) => {
                let why = format!("the history cannot be written: {why}");
                Err(LiveError::Environment(why))
            }
        }
    }

    /// For how long the outside services know a key: longer than any work is tried again.
    fn keys_live(&self) -> Duration {
        let policy = &self.scenario.policy;
        let longest = policy.retry.total + policy.longest_hold();
        (longest * 2).max(Duration::from_secs(600))
    }

    fn is_stopped(&self) -> bool {
        self.options.live.stop.load(Ordering::Relaxed)
    }

    fn send_strangers(&self, plan: &Arc<Plan>, since: u64) {
        let (plan, over) = (plan.clone(), self.offer.lasts);
        let env = redeliver_core::env::live::LiveEnv::process_since("stranger", 0, started(since));
        let (servers, names) = (self.servers.clone(), self.servers.rabbit().names().clone());
        tokio::spawn(async move {
            crate::run::stranger::run(&servers.amqp, &env, &names, &plan, over).await;
        });
    }

    /// Reads tables and queues into the file.
    async fn read(&self, plan: &Plan) -> Result<(), LiveError> {
        let file = self.file.clone();
        let mut take = move |row| file.append(&Record::Row(row_of(row)));
        self.servers.database.store.read_each(&mut take).await?;
        let queues = reading::queues(&self.servers, &plan.topology).await;
        let (queued, letters) = queues.map_err(TransportError::from)?;
        for queued in queued {
            self.file.append(&Record::Row(Row::Queued(queued)));
        }
        for letter in letters {
            self.file
                .append(&Record::Row(Row::Letter(Box::new(letter))));
        }
        for answer in self
            .servers
            .database
            .ask(&self.scenario.expect.no_rows)
            .await
        {
            self.file.append(&Record::Row(Row::Answer(answer)));
        }
        Ok(())
    }
}

fn row_of(row: ReadRow) -> Row {
    match row {
        ReadRow::Outbox(row) => Row::Outbox(Box::new(row)),
        ReadRow::Inbox(row) => Row::Inbox(Box::new(row)),
        ReadRow::Kept(message) => Row::Kept(message),
        ReadRow::Audit(entry) => Row::Audit(Box::new(entry)),
        ReadRow::Workflow(head) => Row::Workflow(head),
        ReadRow::Document(table, key, version, document) => {
            Row::Document(table, key, version, document.to_string())
        }
        ReadRow::Now(now) => Row::Now(now),
    }
}

/// Whether there is nothing left to do.
#[derive(Debug, Default)]
struct Rest {
    /// How many looks in a row have found nothing.
    quiet: u32,
    /// The last entry, and since when nothing came after it.
    last: Option<(u64, Instant)>,
}

/// A run as it goes on.
struct View<'a> {
    setting: &'a Setting,
    plan: Arc<Plan>,
    since: u64,
    tail: Records,
    nemesis: Nemesis,
    /// What the harness's own process gives.
    chaos: Arc<Chaos>,
    /// The servers of this machine, whose CPU can be seen.
    servers: [(&'static str, Server); 2],
    figures: Figures,
    gauged: Instant,
    rest: Rest,
    healed: bool,
}

impl View<'_> {
    /// Watches until all has settled (true), the bound for that is over, or somebody stops it.
    async fn go_on(&mut self, children: &mut Children, begin: u64) -> Result<bool, LiveError> {
        let setting = self.setting;
        let sent_by = Duration::from_nanos(begin) + setting.offer.lasts;
        let bound = setting.scenario.settle;
        let bound = bound.unwrap_or_else(|| self.plan.settle_bound(&setting.scenario));
        loop {
            tokio::time::sleep(LOOK).await;
            for (name, ended, status) in children.tend().await? {
                self.drain()?;
                self.nemesis.ended(&name, ended, status);
            }
            self.drain()?;
            self.nemesis.tend(children).await;
            for why in self.nemesis.failures() {
                (setting.options.live.tell)(&why);
            }
            self.heal(children, sent_by).await;
            if setting.is_stopped() {
                return Ok(false);
            }
            if let Some(why) = setting.file.failure() {
                let why = format!("the history cannot be written: {why}");
                return Err(LiveError::Environment(why));
            }
            if self.gauged.elapsed() < GAUGE {
                continue;
            }
            self.gauged = Instant::now();
            let gauge = self.gauge(children).await;
            self.figures.now = setting.now(self.since);
            (setting.options.watch)(&self.figures);
            let Some(gauge) = gauge else { continue };
            let rests = self.healed
                && children.all_sent()
                && self.plan.strangers_sent()
                && self.rests(&gauge);
            self.rest.quiet = if rests { self.rest.quiet + 1 } else { 0 };
            if self.rest.quiet == 2 {
                return Ok(true);
            }
            if Duration::from_nanos(setting.now(self.since)) > sent_by + bound {
                return Ok(false);
            }
        }
    }

    /// Ends all faults once no more requests are due, and nothing goes on that was begun.
    async fn heal(&mut self, children: &mut Children, sent_by: Duration) {
        let now = self.setting.now(self.since);
        if self.healed || now < nanos(sent_by) {
            return;
        }
        self.nemesis.heal();
        self.chaos.heal();
        if self.nemesis.is_idle() {
            self.healed = true;
            children.heal().await;
            self.setting.file.append(&Record::Heal { at: now });
        }
    }

    /// Reads what was written since the last time.
    fn drain(&mut self) -> Result<(), LiveError> {
        loop {
            let record = self.tail.next_record();
            match record.map_err(|error| LiveError::Environment(format!("the history: {error}")))? {
                Some(record) => {
                    self.figures.add(&record);
                    self.nemesis.see(&record);
                    if let Some(follow) = &self.setting.options.follow {
                        follow(&record);
                    }
                }
                None => return Ok(()),
            }
        }
    }

    /// Looks at servers and processes, and writes what it sees. A server that does not answer is
    /// not seen: the lookout ends a run that waits for it.
    async fn gauge(&mut self, children: &Children) -> Option<crate::watch::file::Gauge> {
        let look = async {
            let seen = gauge::look(&self.setting.servers, &self.plan.topology).await;
            seen.map_err(|error| error.to_string())
        };
        let mut gauge = within(Duration::from_secs(5), look).await.ok()?;
        gauge.at = self.setting.now(self.since);
        gauge.cpu = children.cpu();
        let own = rustix::process::getpid();
        gauge
            .cpu
            .push((Arc::from("harness"), cpu_of(own).unwrap_or(0)));
        for (part, server) in &mut self.servers {
            gauge
                .cpu
                .extend(server.cpu().map(|used| (Arc::from(*part), used)));
        }
        (gauge.memory_kb, gauge.files) = gauge::own();
        self.setting.file.append(&Record::Gauge(gauge.clone()));
        Some(gauge)
    }

    fn rests(&mut self, gauge: &crate::watch::file::Gauge) -> bool {
        let last = self.figures.last;
        let since = match self.rest.last {
            Some((known, since)) if known == last => since,
            _ => Instant::now(),
        };
        self.rest.last = Some((last, since));
        let waiting: u64 = gauge
            .queues
            .iter()
            .map(|(queue, ready)| match queue.ends_with(".dead") {
                true => 0,
                false => *ready,
            })
            .sum();
        if gauge.outbox + waiting > 0 {
            return false;
        }
        let legs = self.figures.legs();
        let ended = legs.open_workflows() == 0 && legs.in_handlers() == 0 && gauge.inbox == 0;
        // One that is lost never ends: then nothing moves for longer than anybody may keep a message.
        let longest = self.setting.scenario.policy.longest_hold();
        ended || since.elapsed() > longest
    }
}
