//! Decodes slices before they are needed, by a few background threads and never more than a few slices ahead.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Result, anyhow};

/// Items that are decoded or being decoded at most, beyond what was taken.
pub const LOOK_AHEAD: usize = 16;

/// A few threads that make items by number.
pub struct ReadAhead<T: Send + 'static> {
    shared: Arc<Shared<T>>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Something was asked for, or the threads are to end.
    asked: Condvar,
    /// An item is ready.
    made: Condvar,
}

struct State<T> {
    queue: VecDeque<usize>,
    at_work: HashSet<usize>,
    ready: HashMap<usize, Result<T>>,
    closed: bool,
}

impl<T: Send + 'static> ReadAhead<T> {
    /// `threads` threads, each of which makes items by a function of its own from `maker`.
    pub fn new<F: FnMut(usize) -> Result<T> + Send + 'static>(threads: usize, mut maker: impl FnMut() -> F) -> Self {
        let state = State { queue: VecDeque::new(), at_work: HashSet::new(), ready: HashMap::new(), closed: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), asked: Condvar::new(), made: Condvar::new() });
        let threads = (0..threads).map(|_| {
            let (shared, make) = (Arc::clone(&shared), maker());
            thread::spawn(move || work(&shared, make))
        });
        Self { threads: threads.collect(), shared }
    }

    /// Asks for items in this order, as far as there is room; those asked for before are passed over, and forgotten
    /// where they are no longer among them.
    pub fn ask(&self, numbers: impl IntoIterator<Item = usize>) {
        let numbers: Vec<usize> = numbers.into_iter().collect();
        let mut state = self.shared.lock();
        state.queue.retain(|number| numbers.contains(number));
        state.ready.retain(|number, _| numbers.contains(number));
        for number in numbers {
            if state.queue.len() + state.at_work.len() + state.ready.len() >= LOOK_AHEAD {
                break;
            }
            if !state.knows(number) {
                state.queue.push_back(number);
            }
        }
        self.shared.asked.notify_all();
    }

    /// An item that was asked for, waiting until it is made; `None` for one that was not.
    pub fn take(&self, number: usize) -> Option<Result<T>> {
        let mut state = self.shared.lock();
        loop {
            if let Some(item) = state.ready.remove(&number) {
                return Some(item);
            }
            if !state.knows(number) {
                return None;
            }
            state = self.shared.made.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> State<T> {
    fn knows(&self, number: usize) -> bool {
        self.queue.contains(&number) || self.at_work.contains(&number) || self.ready.contains_key(&number)
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes what is asked for until the end.
fn work<T>(shared: &Shared<T>, mut make: impl FnMut(usize) -> Result<T>) {
    loop {
        let mut state = shared.lock();
        let number = loop {
            if state.closed {
                return;
            }
            match state.queue.pop_front() {
                Some(number) => break number,
                None => state = shared.asked.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        state.at_work.insert(number);
        drop(state);
        // A panic is the failure of this item alone; nobody may wait for it in vain.
        let item = panic::catch_unwind(AssertUnwindSafe(|| make(number)));
        let item = item.unwrap_or_else(|_| Err(anyhow!("reading it ended in a panic, which is told above")));
        let mut state = shared.lock();
        state.at_work.remove(&number);
        state.ready.insert(number, item);
        shared.made.notify_all();
    }
}

impl<T: Send + 'static> Drop for ReadAhead<T> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.asked.notify_all();
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_any_order_and_errors_with_their_item() {
        let ahead =
            ReadAhead::new(3, || |number: usize| if number == 5 { Err(anyhow!("five")) } else { Ok(10 * number) });
        ahead.ask([3, 1, 5, 7, 1]);
        assert_eq!(ahead.take(7).unwrap().unwrap(), 70);
        assert_eq!(ahead.take(1).unwrap().unwrap(), 10);
        assert_eq!(ahead.take(5).unwrap().unwrap_err().to_string(), "five");
        assert!(ahead.take(1).is_none(), "taken before");
        assert_eq!(ahead.take(3).unwrap().unwrap(), 30);
    }

    #[test]
    fn no_more_is_made_than_the_look_ahead() {
        let made = Arc::new(Mutex::new(0));
        let ahead = ReadAhead::new(2, || {
            let made = Arc::clone(&made);
            move |number: usize| {
                *made.lock().unwrap() += 1;
                Ok(number)
            }
        });
        ahead.ask(0..1000);
        assert_eq!(ahead.take(LOOK_AHEAD - 1).unwrap().unwrap(), LOOK_AHEAD - 1);
        assert!(ahead.take(LOOK_AHEAD).is_none());
        drop(ahead);
        assert!(*made.lock().unwrap() <= LOOK_AHEAD);
    }

    /// Items that were asked for and never taken would otherwise fill the room for good.
    #[test]
    fn what_is_no_longer_asked_for_is_forgotten() {
        let ahead = ReadAhead::new(1, || Ok);
        ahead.ask(0..LOOK_AHEAD);
        assert_eq!(ahead.take(LOOK_AHEAD - 1).unwrap().unwrap(), LOOK_AHEAD - 1);
        ahead.ask([100, 101]);
        assert!(ahead.take(0).is_none());
        assert_eq!(ahead.take(101).unwrap().unwrap(), 101);
    }

    #[test]
    fn a_thread_that_panics_does_not_leave_others_waiting() {
        let ahead: ReadAhead<usize> =
            ReadAhead::new(1, || |number| if number == 0 { panic!("broken") } else { Ok(number) });
        ahead.ask([0, 1]);
        assert!(ahead.take(0).unwrap().is_err());
        assert_eq!(ahead.take(1).unwrap().unwrap(), 1);
    }
}
