//! PyTorch's distributed engine (`distributed/*.cpp`): the store where ranks meet, process groups, and the Reducer of
//! DistributedDataParallel. All ranks make the same calls in the same order.

use std::ffi::{c_char, c_void};
use std::ptr::NonNull;
use std::time::Duration;

use anyhow::Result;
use tch::Tensor;
use torch_sys::C_tensor;

use super::ffi::{c_string, check, new_handle, new_tensor, pointers};

unsafe extern "C" {
    fn unet_store_new(
        store: *mut *mut c_void,
        host: *const c_char,
        port: u16,
        is_server: i32,
        prefix: *const c_char,
        size: i32,
        timeout_ms: i64,
    ) -> i32;
    fn unet_store_free(store: *mut c_void);
    fn unet_store_set(store: *mut c_void, key: *const c_char, bytes: *const u8, count: usize) -> i32;
    fn unet_store_get(store: *mut c_void, key: *const c_char, out: *mut *mut C_tensor) -> i32;
    fn unet_group_new(group: *mut *mut c_void, store: *const c_void, rank: i32, size: i32, on_cuda: i32) -> i32;
    fn unet_group_free(group: *mut c_void);
    fn unet_group_shut_down(group: *mut c_void) -> i32;
    fn unet_group_broadcast(group: *mut c_void, count: usize, tensors: *const *mut C_tensor) -> i32;
    fn unet_group_all_reduce_sum(group: *mut c_void, tensor: *mut C_tensor) -> i32;
    fn unet_group_gather(group: *mut c_void, tensor: *const C_tensor, count: usize, out: *const *mut C_tensor) -> i32;
    fn unet_reducer_new(
        reducer: *mut *mut c_void,
        group: *mut c_void,
        count: usize,
        params: *const *mut C_tensor,
    ) -> i32;
    fn unet_reducer_free(reducer: *mut c_void);
    fn unet_reducer_before_forward(reducer: *mut c_void) -> i32;
    fn unet_reducer_before_backward(reducer: *mut c_void) -> i32;
}

/// Where a store is, and who serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
    /// Whether rank 0 serves the store; a launcher may do so instead.
    pub rank_0_serves: bool,
    /// Prefix of our keys where another program serves the store; else empty.
    pub prefix: String,
}

/// Keys and values that all ranks can read and write.
#[derive(Debug)]
pub struct Store(NonNull<c_void>);

impl Store {
    /// Waits until all `size` ranks have come, `timeout` at most, which bounds every later call on it and its groups
    /// too.
    pub fn open(address: &Address, rank: usize, size: usize, timeout: Duration) -> Result<Self> {
        let (host, prefix) = (c_string(address.host.as_str())?, c_string(address.prefix.as_str())?);
        let is_server = i32::from(address.rank_0_serves && rank == 0);
        let timeout = timeout.as_millis() as i64;
        // SAFETY: both texts live through the call; on success the C++ side stores a new store, freed by the handle
        // made here.
        new_handle(|store| unsafe {
            unet_store_new(store, host.as_ptr(), address.port, is_server, prefix.as_ptr(), size as i32, timeout)
        })
        .map(Self)
    }

    pub fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let key = c_string(key)?;
        // SAFETY: the store is ours; key and value live through the call.
        check(unsafe { unet_store_set(self.0.as_ptr(), key.as_ptr(), value.as_ptr(), value.len()) })
    }

    /// Waits until the key has a value.
    pub fn get(&self, key: &str) -> Result<Vec<u8>> {
        let key = c_string(key)?;
        // SAFETY: the store is ours; see `new_tensor`.
        let bytes = new_tensor(|out| unsafe { unet_store_get(self.0.as_ptr(), key.as_ptr(), out) })?;
        Ok(Vec::<u8>::try_from(&bytes)?)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: the store is ours; groups hold their own reference to what it wraps.
        unsafe { unet_store_free(self.0.as_ptr()) }
    }
}

/// Processes that exchange tensors, by NCCL between GPUs and by Gloo between CPUs.
#[derive(Debug)]
pub struct ProcessGroup(NonNull<c_void>);

impl ProcessGroup {
    pub fn new(store: &Store, rank: usize, size: usize, on_cuda: bool) -> Result<Self> {
        // SAFETY: the store lives; on success the C++ side stores a new group, freed by the handle made here.
        new_handle(|group| unsafe {
            unet_group_new(group, store.0.as_ptr(), rank as i32, size as i32, i32::from(on_cuda))
        })
        .map(Self)
    }

    /// Ends the connections, after the last exchange of all ranks; nothing is exchanged afterwards.
    pub fn shut_down(&self) -> Result<()> {
        // SAFETY: the group is ours.
        check(unsafe { unet_group_shut_down(self.0.as_ptr()) })
    }

    /// Rank 0's values to all ranks, in place.
    pub fn broadcast(&self, tensors: &[&Tensor]) -> Result<()> {
        let tensors: Vec<Tensor> = tensors.iter().map(|tensor| tensor.shallow_clone()).collect();
        let tensors = pointers(&tensors);
        // SAFETY: the tensors are borrowed for the call, which returns when their values are there (or queued on the
        // GPU's stream that later work waits for).
        check(unsafe { unet_group_broadcast(self.0.as_ptr(), tensors.len(), tensors.as_ptr()) })
    }

    /// The sum over ranks, in place.
    pub fn all_reduce_sum(&self, tensor: &mut Tensor) -> Result<()> {
        // SAFETY: as in `broadcast`.
        check(unsafe { unet_group_all_reduce_sum(self.0.as_ptr(), tensor.as_mut_ptr()) })
    }

    /// Every rank's `tensor` to rank 0, into `places` in the order of ranks; no places on the others.
    pub fn gather(&self, tensor: &Tensor, places: &[Tensor]) -> Result<()> {
        let places = pointers(places);
        // SAFETY: as in `broadcast`.
        check(unsafe { unet_group_gather(self.0.as_ptr(), tensor.as_ptr(), places.len(), places.as_ptr()) })
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // SAFETY: the group is ours; reducers hold their own reference to what it wraps.
        unsafe { unet_group_free(self.0.as_ptr()) }
    }
}

/// Averages gradients over the ranks while the backward pass runs. Afterwards each parameter's gradient is the mean, in
/// memory that belongs to the reducer until the next backward pass.
#[derive(Debug)]
pub struct Reducer(NonNull<c_void>);

impl Reducer {
    /// Fails where ranks have parameters of different shapes.
    pub fn new(group: &ProcessGroup, params: &[Tensor]) -> Result<Self> {
        let params = pointers(params);
        // SAFETY: the C++ side keeps references of its own to group and tensors; the new reducer is freed by this
        // handle.
        new_handle(|reducer| unsafe { unet_reducer_new(reducer, group.0.as_ptr(), params.len(), params.as_ptr()) })
            .map(Self)
    }

    pub fn before_forward(&self) -> Result<()> {
        // SAFETY: the reducer is ours.
        check(unsafe { unet_reducer_before_forward(self.0.as_ptr()) })
    }

    pub fn before_backward(&self) -> Result<()> {
        // SAFETY: the reducer is ours.
        check(unsafe { unet_reducer_before_backward(self.0.as_ptr()) })
    }
}

impl Drop for Reducer {
    fn drop(&mut self) {
        // SAFETY: the reducer is ours, and no backward pass is in progress: `tch` returns from it when it is done.
        unsafe { unet_reducer_free(self.0.as_ptr()) }
    }
}
