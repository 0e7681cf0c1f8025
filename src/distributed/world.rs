//! What the processes of a run do together.
//!
//! The work itself is PyTorch's: c10d process groups over Gloo (CPU) or NCCL (GPU), and the Reducer of its
//! DistributedDataParallel (docs/distributed.md). A process alone goes the same road without a group.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tch::{Device, Tensor};

use super::environment::RankInfo;
use crate::error::{EXIT_LOST_RANKS, LostRanks};
use crate::native::distributed::{ProcessGroup, Reducer, Store};
use crate::native::process;

/// All processes of a run, seen from this one.
pub struct World {
    /// 0..size; rank 0 writes files and logs.
    pub rank: usize,
    pub size: usize,
    pub device: Device,
    link: Option<Link>,
}

struct Link {
    store: Store,
    group: ProcessGroup,
}

impl World {
    /// A process by itself.
    pub fn alone(device: Device) -> Self {
        Self { rank: 0, size: 1, device, link: None }
    }

    /// Meets the other ranks; `None` is a process alone. Waits for the last of them, `timeout` at most, which bounds
    /// every later exchange too. `settings` is what must be the same on all ranks.
    ///
    /// Errors: ranks that do not come, or were started with other settings.
    pub fn join(
        rank: Option<&RankInfo>,
        device: Device,
        timeout: Duration,
        settings: &Map<String, Value>,
    ) -> Result<Self> {
        let Some(RankInfo { rank, size, address, .. }) = rank else { return Ok(Self::alone(device)) };
        let cannot_meet = || {
            format!(
                "rank {rank} of {size} cannot meet the others at {}:{} (--dist_timeout {} s); check that every rank \
                 was started, that MASTER_ADDR and MASTER_PORT are those of rank 0 on each, and that the port is free \
                 and open",
                address.host,
                address.port,
                timeout.as_secs()
            )
        };
        let store = Store::open(address, *rank, *size, timeout).map_err(|error| match error.to_string() {
            text if text.contains("EADDRINUSE") => anyhow!(
                "port {} of this machine is in use; set MASTER_PORT to another one on all ranks, or wait for the \
                 other run",
                address.port
            ),
            _ => error.context(cannot_meet()),
        })?;
        // Before the group: ranks of different kinds would wait for each other in vain.
        agree(&store, *rank, *size, settings).with_context(cannot_meet)??;
        if device.is_cuda() {
            // NCCL has a thread of its own, which is the one to find out that a rank is gone.
            process::exit_if_ranks_are_lost(EXIT_LOST_RANKS);
        }
        let group = ProcessGroup::new(&store, *rank, *size, device.is_cuda()).with_context(cannot_meet)?;
        let world = Self { rank: *rank, size: *size, device, link: Some(Link { store, group }) };
        world.barrier().with_context(cannot_meet)?;
        Ok(world)
    }

    /// Whether this process writes what there is to write.
    pub fn is_main(&self) -> bool {
        self.rank == 0
    }

    /// What `make` returns on rank 0, for all ranks; the others do not call it. Each `key` is used once.
    pub fn on_main<T: Serialize + DeserializeOwned>(&self, key: &str, make: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(Link { store, .. }) = &self.link else { return make() };
        if self.is_main() {
            let value = make()?;
            store.set(key, &serde_json::to_vec(&value)?).with_context(|| self.lost())?;
            return Ok(value);
        }
        Ok(serde_json::from_slice(&store.get(key).with_context(|| self.lost())?)?)
    }

    /// Rank 0's values on all ranks, in place.
    pub fn broadcast(&self, tensors: &[&Tensor]) -> Result<()> {
        let Some(Link { group, .. }) = &self.link else { return Ok(()) };
        group.broadcast(tensors).with_context(|| self.lost())
    }

    /// The sum over ranks of each of these numbers.
    pub fn sum(&self, numbers: &[f64]) -> Result<Vec<f64>> {
        let Some(Link { group, .. }) = &self.link else { return Ok(numbers.to_vec()) };
        let mut tensor = Tensor::from_slice(numbers).to_device(self.device);
        group.all_reduce_sum(&mut tensor).with_context(|| self.lost())?;
        Ok(Vec::<f64>::try_from(tensor.to_device(Device::Cpu))?)
    }

    /// Every rank's `tensor` on rank 0, in the order of ranks; empty on the others. Shapes are the same on all.
    pub fn gather(&self, tensor: &Tensor) -> Result<Vec<Tensor>> {
        let Some(Link { group, .. }) = self.link.as_ref().filter(|_| self.size > 1) else {
            return Ok(vec![tensor.shallow_clone()]);
        };
        let tensor = tensor.contiguous();
        let places: Vec<Tensor> =
            (0..if self.is_main() { self.size } else { 0 }).map(|_| tensor.empty_like()).collect();
        group.gather(&tensor, &places).with_context(|| self.lost())?;
        Ok(places)
    }

    /// Waits until all ranks have come here.
    pub fn barrier(&self) -> Result<()> {
        self.sum(&[0.0]).map(drop)
    }

    /// Ends the connections to the other ranks. All of them have made their last exchange.
    pub fn leave(&self) -> Result<()> {
        self.link.as_ref().map_or(Ok(()), |link| link.group.shut_down())
    }

    /// What averages the gradients of `params` over the ranks; a process alone needs none.
    pub fn reducer(&self, params: &[Tensor]) -> Result<Option<Reducer>> {
        let Some(Link { group, .. }) = &self.link else { return Ok(None) };
        Ok(Some(Reducer::new(group, params).with_context(|| self.lost())?))
    }

    fn lost(&self) -> LostRanks {
        LostRanks { rank: self.rank, size: self.size }
    }
}

/// `error` of a step in which gradients are exchanged, with what it means for the rank.
pub fn explain(error: anyhow::Error, ranks: LostRanks) -> anyhow::Error {
    let text = format!("{error:#}");
    let in_exchange = ["gloo", "NCCL", "c10d"].iter().any(|engine| text.contains(engine));
    if in_exchange { error.context(ranks) } else { error }
}

/// Compares `settings` with those of rank 0, which tells all ranks alike. The outer error is one of reaching the
/// others.
fn agree(store: &Store, rank: usize, size: usize, settings: &Map<String, Value>) -> Result<Result<()>> {
    const VERDICT: &str = "verdict";
    let key = |rank: usize| format!("settings/{rank}");
    let heard = |rank: usize| format!("heard/{rank}");
    if rank > 0 {
        store.set(&key(rank), &serde_json::to_vec(settings)?)?;
        let verdict = String::from_utf8(store.get(VERDICT)?)?;
        store.set(&heard(rank), &[])?;
        return Ok(if verdict.is_empty() { Ok(()) } else { Err(anyhow!(verdict)) });
    }
    let read = |rank| -> Result<Map<String, Value>> { Ok(serde_json::from_slice(&store.get(&key(rank))?)?) };
    let theirs = (1..size).map(|rank| Ok((rank, read(rank)?))).collect::<Result<Vec<_>>>()?;
    let compared = theirs.iter().try_for_each(|(rank, other)| compare(*rank, other, settings));
    let verdict = compared.as_ref().err().map(ToString::to_string).unwrap_or_default();
    store.set(VERDICT, verdict.as_bytes())?;
    // The store goes with this process.
    (1..size).try_for_each(|rank| store.get(&heard(rank)).map(drop))?;
    Ok(compared)
}

fn compare(rank: usize, settings: &Map<String, Value>, main: &Map<String, Value>) -> Result<()> {
    for (name, value) in settings {
        let other = main.get(name).unwrap_or(&Value::Null);
        if value != other {
            bail!(
                "rank {rank} has {name} {value}, rank 0 has {other}; start all ranks with the same flags, data and \
                 program"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_setting_that_differs_is_named() {
        let settings =
            |batch_size: u64| json!({"device": "cpu", "batch_size": batch_size}).as_object().unwrap().clone();
        assert!(compare(3, &settings(2), &settings(2)).is_ok());
        let error = compare(3, &settings(2), &settings(1)).unwrap_err().to_string();
        assert!(error.contains("rank 3 has batch_size 2, rank 0 has 1"), "{error}");
        assert!(compare(1, &settings(2), &Map::new()).is_err());
    }

    #[test]
    fn a_process_alone_is_its_own_world() {
        let world = World::alone(Device::Cpu);
        assert!(world.is_main());
        assert_eq!(world.sum(&[1.5, 2.0]).unwrap(), [1.5, 2.0]);
        assert_eq!(world.on_main("key", || Ok(7)).unwrap(), 7);
        assert_eq!(world.gather(&Tensor::from(3.0)).unwrap().len(), 1);
        assert!(world.reducer(&[]).unwrap().is_none());
        world.barrier().unwrap();
        world.leave().unwrap();
    }
}
