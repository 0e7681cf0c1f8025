//! Who this process is among those of a run, told by the environment that a launcher made: torchrun (and our own
//! `launcher.rs`), Open MPI, MPICH or Slurm. The one home of these variables.

use crate::error::UsageError;
use crate::native::distributed::Address;

/// This process among all of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankInfo {
    /// 0..size.
    pub rank: usize,
    pub size: usize,
    /// 0..processes on this machine; names the GPU.
    pub local_rank: usize,
    /// Processes on this machine, where the launcher tells it.
    pub local_size: Option<usize>,
    /// Where the ranks meet.
    pub address: Address,
}

type Result<T> = std::result::Result<T, UsageError>;

/// torchrun's default.
const DEFAULT_PORT: u16 = 29_500;

/// The names under which a launcher tells rank, size and place on the machine.
struct Launcher {
    name: &'static str,
    rank: &'static str,
    size: &'static str,
    local_rank: &'static str,
    /// Optional.
    local_size: &'static str,
    /// Present only if this launcher started us.
    sign: &'static str,
}

const LAUNCHERS: [Launcher; 4] = [
    Launcher {
        name: "torchrun",
        rank: "RANK",
        size: "WORLD_SIZE",
        local_rank: "LOCAL_RANK",
        local_size: "LOCAL_WORLD_SIZE",
        sign: "RANK",
    },
    Launcher {
        name: "Open MPI",
        rank: "OMPI_COMM_WORLD_RANK",
        size: "OMPI_COMM_WORLD_SIZE",
        local_rank: "OMPI_COMM_WORLD_LOCAL_RANK",
        local_size: "OMPI_COMM_WORLD_LOCAL_SIZE",
        sign: "OMPI_COMM_WORLD_RANK",
    },
    Launcher {
        name: "MPICH",
        rank: "PMI_RANK",
        size: "PMI_SIZE",
        local_rank: "MPI_LOCALRANKID",
        local_size: "MPI_LOCALNRANKS",
        sign: "MPI_LOCALRANKID",
    },
    // A batch script has the first variables too; the last one only what srun has started.
    Launcher {
        name: "Slurm",
        rank: "SLURM_PROCID",
        size: "SLURM_STEP_NUM_TASKS",
        local_rank: "SLURM_LOCALID",
        local_size: "",
        sign: "SLURM_STEP_NUM_TASKS",
    },
];

/// This process among those of its run, from its environment; `None` for a process alone.
pub fn rank() -> Result<Option<RankInfo>> {
    Variables(|name: &str| std::env::var(name).ok()).rank()
}

/// A lookup of variables.
struct Variables<F>(F);

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    /// This process among those of its run; `None` where no launcher has started it, or MPI or Slurm one process alone.
    ///
    /// Errors: variables that are missing, are no numbers or contradict each other.
    fn rank(&self) -> Result<Option<RankInfo>> {
        let has = |name: &str| !name.is_empty() && self.text(name).is_some();
        // torchrun's come first: it may itself have been started by one of the others, once per machine.
        let Some(launcher) = LAUNCHERS.iter().find(|launcher| has(launcher.sign)) else {
            return match self.text("WORLD_SIZE") {
                Some(size) if size != "1" => Err(UsageError::new(format!(
                    "WORLD_SIZE is {size} but RANK is not set; a launcher sets both, unset WORLD_SIZE to run \
                     one process"
                ))),
                _ => Ok(None),
            };
        };
        let (rank, size) = (self.number(launcher, launcher.rank)?, self.number(launcher, launcher.size)?);
        let (rank_name, size_name) = (launcher.rank, launcher.size);
        if size == 1 && launcher.name != "torchrun" {
            return Ok(None);
        }
        if size == 0 || rank >= size {
            return Err(UsageError::new(format!(
                "{rank_name} is {rank} and {size_name} is {size}; ranks go from 0 to {size_name} - 1"
            )));
        }
        let local_rank = match size {
            1 if !has(launcher.local_rank) => 0,
            _ => self.number(launcher, launcher.local_rank)?,
        };
        let local_size = has(launcher.local_size).then(|| self.number(launcher, launcher.local_size)).transpose()?;
        if local_rank > rank || local_size.is_some_and(|local_size| local_rank >= local_size || local_size > size) {
            return Err(UsageError::new(format!(
                "{} is {local_rank} with {rank_name} {rank}, {size_name} {size} and {} processes on this machine; \
                 they contradict each other, start all ranks with one launcher",
                launcher.local_rank,
                local_size.map_or_else(|| "an unknown number of".to_owned(), |size| size.to_string()),
            )));
        }
        let address = self.address(launcher, size, local_size)?;
        Ok(Some(RankInfo { rank, size, local_rank, local_size, address }))
    }

    fn address(&self, launcher: &Launcher, size: usize, local_size: Option<usize>) -> Result<Address> {
        let host = match (self.text("MASTER_ADDR"), self.text("SLURM_STEP_NODELIST")) {
            (Some(host), _) => host,
            (None, Some(nodes)) if launcher.name == "Slurm" => first_host(&nodes),
            _ if size == 1 || local_size == Some(size) => "127.0.0.1".to_owned(),
            _ => {
                return Err(UsageError::new(format!(
                    "{} started {size} processes, but MASTER_ADDR is not set; set it to the address of \
                     rank 0's machine",
                    launcher.name
                )));
            }
        };
        let port =
            match self.text("MASTER_PORT") {
                Some(text) => text.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
                    UsageError::new(format!("MASTER_PORT is '{text}'; expected a port from 1 to 65535"))
                })?,
                // Two jobs on a machine must not meet.
                None => match self.text("SLURM_JOB_ID").and_then(|id| id.parse::<u64>().ok()) {
                    Some(id) if launcher.name == "Slurm" => 15_000 + (id % 20_000) as u16,
                    _ => DEFAULT_PORT,
                },
            };
        // As PyTorch's rendezvous does it.
        let served_by_agent = self.text("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
        let prefix = if served_by_agent {
            format!("/worker/attempt_{}", self.text("TORCHELASTIC_RESTART_COUNT").unwrap_or_else(|| "0".to_owned()))
        } else {
            String::new()
        };
        Ok(Address { host, port, rank_0_serves: !served_by_agent, prefix })
    }

    fn text(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn number(&self, launcher: &Launcher, name: &str) -> Result<usize> {
        let Some(text) = self.text(name) else {
            return Err(UsageError::new(format!(
                "{} is set but {name} is not; {} sets both, unset {} to run one process",
                launcher.sign, launcher.name, launcher.sign
            )));
        };
        text.parse().map_err(|_| UsageError::new(format!("{name} is '{text}'; expected a whole number")))
    }
}

/// The first machine of Slurm's list: `gpu03` of `gpu[03-07,11],login1`.
fn first_host(nodes: &str) -> String {
    let end = nodes.find([',', '[']).unwrap_or(nodes.len());
    let name = &nodes[..end];
    if !nodes[end..].starts_with('[') {
        return name.to_owned();
    }
    let number: String = nodes[end + 1..].chars().take_while(char::is_ascii_digit).collect();
    // What follows the bracket up to the next comma belongs to the name.
    let rest = nodes[end..].find(']').map_or("", |close| &nodes[end + close + 1..]);
    let rest = &rest[..rest.find(',').unwrap_or(rest.len())];
    format!("{name}{number}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(variables: &[(&str, &str)]) -> Result<Option<RankInfo>> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Variables(find).rank()
    }

    fn found(variables: &[(&str, &str)]) -> RankInfo {
        rank(variables).unwrap().unwrap()
    }

    fn refused(variables: &[(&str, &str)], words: &[&str]) {
        let message = rank(variables).unwrap_err().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }

    #[test]
    fn a_process_without_a_launcher_is_alone() {
        assert!(rank(&[]).unwrap().is_none());
        assert!(rank(&[("WORLD_SIZE", "1"), ("MASTER_ADDR", "x")]).unwrap().is_none());
        // A batch script, before srun.
        let batch_script = [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8"), ("SLURM_LOCALID", "0")];
        assert!(rank(&batch_script).unwrap().is_none());
        let one_task = [("SLURM_PROCID", "0"), ("SLURM_STEP_NUM_TASKS", "1"), ("SLURM_LOCALID", "0")];
        assert!(rank(&one_task).unwrap().is_none());
    }

    const TORCHRUN: [(&str, &str); 6] = [
        ("RANK", "5"),
        ("WORLD_SIZE", "8"),
        ("LOCAL_RANK", "1"),
        ("LOCAL_WORLD_SIZE", "4"),
        ("MASTER_ADDR", "10.0.0.1"),
        ("MASTER_PORT", "1234"),
    ];

    #[test]
    fn torchrun_is_recognised_with_its_own_store_or_its_agent_s() {
        let address = Address { host: "10.0.0.1".to_owned(), port: 1234, rank_0_serves: true, prefix: String::new() };
        let info = RankInfo { rank: 5, size: 8, local_rank: 1, local_size: Some(4), address: address.clone() };
        assert_eq!(found(&TORCHRUN), info);
        let agent = [("TORCHELASTIC_USE_AGENT_STORE", "True"), ("TORCHELASTIC_RESTART_COUNT", "2")];
        let info = found(&[&TORCHRUN[..], &agent].concat());
        assert_eq!(info.address, Address { rank_0_serves: false, prefix: "/worker/attempt_2".to_owned(), ..address });
        // torchrun started by srun, once per machine.
        let slurm = [("SLURM_PROCID", "1"), ("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_LOCALID", "0")];
        assert_eq!(found(&[&TORCHRUN[..], &slurm].concat()).rank, 5);
    }

    #[test]
    fn mpi_on_one_machine_needs_no_address_and_on_more_it_does() {
        let mpi = |local_size: &'static str| {
            [
                ("OMPI_COMM_WORLD_RANK", "3"),
                ("OMPI_COMM_WORLD_SIZE", "4"),
                ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
                ("OMPI_COMM_WORLD_LOCAL_SIZE", local_size),
            ]
        };
        let info = found(&mpi("4"));
        assert_eq!((info.rank, info.size, info.local_rank), (3, 4, 1));
        assert_eq!((info.address.host.as_str(), info.address.port), ("127.0.0.1", 29_500));
        refused(&mpi("2"), &["Open MPI", "MASTER_ADDR"]);
    }

    #[test]
    fn slurm_gives_the_first_machine_and_a_port_of_the_job() {
        let slurm = [
            ("SLURM_PROCID", "9"),
            ("SLURM_STEP_NUM_TASKS", "16"),
            ("SLURM_LOCALID", "1"),
            ("SLURM_STEP_NODELIST", "gpu[03-04]"),
            ("SLURM_JOB_ID", "4000123"),
        ];
        let info = found(&slurm);
        assert_eq!((info.rank, info.size, info.local_rank), (9, 16, 1));
        assert_eq!((info.address.host.as_str(), info.address.port), ("gpu03", 15_123));
    }

    #[test]
    fn slurm_lists_are_read_as_slurm_writes_them() {
        for (nodes, first) in [
            ("login1", "login1"),
            ("a1,a2", "a1"),
            ("gpu[03-07,11],login1", "gpu03"),
            ("rack2-n[7]-ib,x", "rack2-n7-ib"),
            ("n[001,5].site.org", "n001.site.org"),
        ] {
            assert_eq!(first_host(nodes), first);
        }
    }

    #[test]
    fn incomplete_and_contradicting_variables_are_refused() {
        refused(&[("WORLD_SIZE", "2")], &["WORLD_SIZE is 2", "RANK"]);
        refused(&[("RANK", "0")], &["RANK is set", "WORLD_SIZE"]);
        refused(&[("RANK", "2"), ("WORLD_SIZE", "2")], &["RANK is 2", "WORLD_SIZE is 2"]);
        refused(&[("RANK", "-1"), ("WORLD_SIZE", "2")], &["RANK is '-1'", "whole number"]);
        refused(&[("RANK", "0"), ("WORLD_SIZE", "2")], &["LOCAL_RANK"]);
        refused(&[("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")], &["contradict"]);
        refused(&[&TORCHRUN[..3], &[("LOCAL_WORLD_SIZE", "1"), ("MASTER_ADDR", "x")]].concat(), &["contradict"]);
        refused(
            &[&TORCHRUN[..4], &[("MASTER_ADDR", "x"), ("MASTER_PORT", "70000")]].concat(),
            &["MASTER_PORT", "70000"],
        );
        refused(&TORCHRUN[..4], &["torchrun", "MASTER_ADDR"]);
    }
}
