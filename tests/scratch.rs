//! Scratch.
#[test]
fn scratch() {
    let name = std::env::var("PLANT").unwrap();
    let seed: u64 = std::env::var("SEED").unwrap().parse().unwrap();
    let full = std::env::var("FULL").is_ok();
    let plant = redeliver::planted::ALL.iter().find(|p| p.name == name).unwrap();
    let s = (plant.scenario)();
    let run = if std::env::var("SHIPPED").is_ok() { plant.shipped } else { plant.planted };
    let r = run(&s, seed, full);
    for l in &r.trace { println!("{l}"); }
    println!("{:?} {:?} {:#?}", r.verdict, r.faults, r.anomalies);
}
