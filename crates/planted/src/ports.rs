//! The ports of planted builds, each in a line.

/// The ports of a build: those of every altered build, made by `$ports` from the bare ones.
macro_rules! planted_ports {
    ($ports:expr) => {
        type Transport = ::redeliver_harness::run::assembly::bend::AlteredTransport;
        type Store = ::redeliver_harness::run::assembly::bend::AlteredStore;
        type Service = ::redeliver_harness::run::assembly::bend::AlteredService;

        fn ports(
            &self,
            bare: ::redeliver_harness::run::assembly::SimPorts,
        ) -> ::redeliver_harness::run::assembly::bend::BentPorts {
            $ports(bare)
        }
    };
}

/// The ports of a build are bent by what `$bend` gives for the bare ports.
macro_rules! bent_ports {
    ($bend:expr) => {
        $crate::ports::planted_ports!(|bare| {
            let bent = $bend(&bare);
            ::redeliver_harness::run::assembly::bend::bend(
                bare,
                bent,
                ::redeliver_harness::run::assembly::bend::Straight,
            )
        });
    };
}

/// The ports of a build are the shipped ones over an `amqp` adapter bent by `$wire`.
macro_rules! bent_wire {
    ($wire:expr) => {
        $crate::ports::planted_ports!(|bare| {
            ::redeliver_harness::run::assembly::bend::bend(
                bare,
                ::redeliver_harness::run::assembly::bend::Straight,
                $wire,
            )
        });
    };
}

/// The ports of a build do what those of the shipped pipeline do.
macro_rules! shipped_ports {
    () => {
        $crate::ports::bent_wire!(::redeliver_harness::run::assembly::bend::Straight);
    };
}

pub(super) use {bent_ports, bent_wire, planted_ports, shipped_ports};
