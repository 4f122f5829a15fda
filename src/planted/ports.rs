//! The ports of planted builds, each in a line.

/// The ports of a build: those of every altered build, made by `$ports` from the bare ones.
macro_rules! planted_ports {
    ($ports:expr) => {
        type Transport = $crate::harness::build::bend::AlteredTransport;
        type Store = $crate::harness::build::bend::AlteredStore;
        type Service = $crate::harness::build::bend::AlteredService;

        fn ports(
            &self,
            bare: $crate::harness::build::SimPorts,
        ) -> $crate::harness::build::bend::BentPorts {
            $ports(bare)
        }
    };
}

/// The ports of a build are bent by what `$bend` gives for the bare ports.
macro_rules! bent_ports {
    ($bend:expr) => {
        $crate::planted::ports::planted_ports!(|bare| {
            let bent = $bend(&bare);
            $crate::harness::build::bend::bend(bare, bent, $crate::harness::build::bend::Straight)
        });
    };
}

/// The ports of a build are the shipped ones over an `amqp` adapter bent by `$wire`.
macro_rules! bent_wire {
    ($wire:expr) => {
        $crate::planted::ports::planted_ports!(|bare| {
            $crate::harness::build::bend::bend(bare, $crate::harness::build::bend::Straight, $wire)
        });
    };
}

/// The ports of a build do what those of the shipped pipeline do.
macro_rules! shipped_ports {
    () => {
        $crate::planted::ports::bent_wire!($crate::harness::build::bend::Straight);
    };
}

pub(super) use {bent_ports, bent_wire, planted_ports, shipped_ports};
