//! Selected processes: those whose socket operations are recorded.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use core::ptr;
use onlooker_common::limits::UNDECIDED_BYTES;
use onlooker_common::losses::Loss;
use onlooker_common::selection::{SelectedProcess, census_slot, interest, process_flag};
use onlooker_common::unit::{self, SOURCE_WORDS, UnitSource};

use crate::atomic;
use crate::maps::{AGENTS_CENSUS, CENSUS, PROCESSES, UNIT_SOURCES, count, interests, unit_generation};

/// A selected process, in place in the map.
#[derive(Clone, Copy)]
pub struct Selected(*mut SelectedProcess);

impl Selected {
    /// # Safety
    /// `process` must be a live value of the map, or null.
    #[inline(always)]
    pub unsafe fn new(process: *mut SelectedProcess) -> Option<Self> {
        if process.is_null() { None } else { Some(Self(process)) }
    }

    /// # Safety
    /// `process` must be a live value of the map.
    #[inline(always)]
    pub unsafe fn within(process: *mut SelectedProcess) -> Self {
        Self(process)
    }

    #[inline(always)]
    pub fn as_ptr(self) -> *mut SelectedProcess {
        self.0
    }

    /// The process `tgid`, if it is selected. Also if that is undecided, as long as it may be recorded.
    #[inline(always)]
    pub fn find(tgid: u32) -> Option<Self> {
        let process = Self::known(tgid)?;
        if process.has(process_flag::UNDECIDED) && !process.may_be_recorded() { None } else { Some(process) }
    }

    /// The process `tgid`, if the map has it.
    #[inline(always)]
    pub fn known(tgid: u32) -> Option<Self> {
        // The agent may remove a process that a program counted: its own count is then negative.
        if counted(CENSUS.get_ptr(census_slot(tgid))) + counted(AGENTS_CENSUS.get_ptr(census_slot(tgid))) != 0 {
            PROCESSES.get_ptr_mut(tgid).map(Self)
        } else {
            None
        }
    }

    /// Selects a process, unless it is selected already. Returns whether this call selected it.
    #[inline(always)]
    pub fn insert(tgid: u32, process: SelectedProcess) -> bool {
        // The census is raised first: once the entry exists, nobody may miss it.
        count_in_census(tgid, 1);
        if PROCESSES.insert(tgid, process, u64::from(BPF_NOEXIST)).is_ok() {
            return true;
        }
        count_in_census(tgid, -1);
        if PROCESSES.get_ptr(tgid).is_none() {
            count(Loss::ProcessesFull);
        }
        false
    }

    /// Removes the process `tgid`. If the agent selected it, the agent lowers its own census.
    #[inline(always)]
    pub fn remove(self, tgid: u32) {
        let by_agent = self.has(process_flag::BY_AGENT);
        let _ = UNIT_SOURCES.remove(tgid);
        // The agent may have removed it first.
        if PROCESSES.remove(tgid).is_ok() && !by_agent {
            count_in_census(tgid, -1);
        }
    }

    #[inline(always)]
    fn may_be_recorded(self) -> bool {
        // SAFETY: a live value of the map; the helper has no arguments.
        unsafe { (*self.0).undecided_bytes > 0 && bpf_ktime_get_ns() < (*self.0).undecided_until }
    }

    /// Counts bytes that were recorded of an undecided process.
    #[inline(always)]
    pub fn recorded(self, bytes: u32) {
        if self.has(process_flag::UNDECIDED) {
            // SAFETY: a live, aligned value of the map.
            unsafe { atomic::fetch_add(&raw mut (*self.0).undecided_bytes, -i64::from(bytes)) };
        }
    }

    /// The process executed another program that may be selected, so that its bounds begin again.
    #[inline(always)]
    pub fn extend(self, until: u64) {
        // SAFETY: a live value of the map.
        unsafe {
            (*self.0).undecided_until = until;
            (*self.0).undecided_bytes = UNDECIDED_BYTES;
        }
    }

    /// Records nothing more of a process that is undecided: the agent does not know that its records must wait.
    #[inline(always)]
    pub fn stop_undecided(tgid: u32) {
        if let Some(process) = Self::known(tgid) {
            // SAFETY: a live value of the map. It matters only while the process is undecided.
            unsafe { (*process.0).undecided_bytes = 0 };
        }
    }

    /// The process is selected from now on.
    #[inline(always)]
    pub fn decide(self) {
        self.clear(process_flag::UNDECIDED);
    }

    /// How the process's unit of work is read.
    #[inline(always)]
    pub fn unit_source(self, tgid: u32) -> *const UnitSource {
        // SAFETY: live values of the maps. Copied word by word: a copy of the struct would go over the stack. Two CPUs that
        // copy at the same time copy the same words.
        unsafe {
            let own = &raw mut (*self.0).unit;
            let generation = unit_generation();
            if (*own).generation != generation {
                if let Some(source) = UNIT_SOURCES.get_ptr(tgid) {
                    for word in 0..SOURCE_WORDS {
                        (*own).words[word] = (*source).words[word];
                    }
                    ptr::write_volatile(&raw mut (*own).kind, (*source).kind);
                }
                ptr::write_volatile(&raw mut (*own).generation, generation);
            }
            own
        }
    }

    /// Whether it is known that no unit of work is read in the process.
    #[inline(always)]
    pub fn has_no_unit_source(self) -> bool {
        // SAFETY: a live value of the map, which other CPUs may write.
        unsafe {
            let own = &raw const (*self.0).unit;
            ptr::read_volatile(&raw const (*own).generation) == unit_generation()
                && ptr::read_volatile(&raw const (*own).kind) == unit::NONE
        }
    }

    /// Whether the process is a Node whose async ids are read.
    #[inline(always)]
    pub fn reads_async_ids(self, tgid: u32) -> bool {
        // SAFETY: a live value of the map, which other CPUs may write.
        unsafe { ptr::read_volatile(&raw const (*self.unit_source(tgid)).kind) == unit::ASYNC_ID }
    }

    #[inline(always)]
    pub fn has(self, flag: u64) -> bool {
        // SAFETY: a live value of the map.
        unsafe { (*self.0).flags & flag != 0 }
    }

    #[inline(always)]
    pub fn set(self, flag: u64) {
        // SAFETY: a live, aligned value of the map; other CPUs may set other bits at the same time.
        unsafe { atomic::or(&raw mut (*self.0).flags, flag) };
    }

    #[inline(always)]
    pub fn clear(self, flag: u64) {
        // SAFETY: as in `set`.
        unsafe { atomic::and(&raw mut (*self.0).flags, !flag) };
    }

    /// Requests in flight that do not wait for the answer to a call.
    #[inline(always)]
    pub fn runnable(self) -> i64 {
        // SAFETY: a live value of the map.
        unsafe { ptr::read_volatile(&raw const (*self.0).runnable) }
    }

    #[inline(always)]
    pub fn add_runnable(self, change: i64) {
        // SAFETY: a live, aligned value of the map.
        let before = unsafe { atomic::fetch_add(&raw mut (*self.0).runnable, change) };
        if before + change < 0 {
            self.set(process_flag::MISCOUNTED);
        }
    }

    /// Forgets what was learnt about the process `tgid`: it executes another program.
    #[inline(always)]
    pub fn reset(self, tgid: u32) {
        let _ = UNIT_SOURCES.remove(tgid);
        // SAFETY: a live value of the map. The process has one thread, which runs this.
        unsafe {
            let holder = (*self.0).flags & process_flag::PORT_HOLDER != 0;
            (*self.0).flags &= process_flag::BY_AGENT | process_flag::CANDIDATE | process_flag::UNDECIDED;
            (*self.0).flags |= unjudged();
            if holder {
                (*self.0).flags |= process_flag::CANDIDATE;
            }
            (*self.0).runnable = 0;
            (*self.0).unit.kind = unit::NONE;
        }
    }

    /// The entry for a child of this process.
    #[inline(always)]
    pub fn for_child(self) -> SelectedProcess {
        // SAFETY: a live value of the map.
        let parent = unsafe { *self.0 };
        // CALLS is not inherited: the agent has to hear of the child's own first call.
        let flags = parent.flags & !(process_flag::CALLS | process_flag::BY_AGENT | process_flag::MISCOUNTED);
        SelectedProcess { runnable: 0, flags, ..parent }
    }

    #[inline(always)]
    pub fn request_capture(self) -> u32 {
        // SAFETY: a live value of the map.
        unsafe { (*self.0).request_capture }
    }

    #[inline(always)]
    pub fn response_capture(self) -> u32 {
        // SAFETY: a live value of the map.
        unsafe { (*self.0).response_capture }
    }
}

/// The flags of a process whose rule the agent has not looked up.
#[inline(always)]
pub fn unjudged() -> u64 {
    if interests() & interest::INJECTION != 0 { process_flag::NOT_INJECTED } else { 0 }
}

#[inline(always)]
fn counted(slot: Option<*const i64>) -> i64 {
    // SAFETY: a live word of the map.
    slot.map_or(0, |slot| unsafe { ptr::read_volatile(slot) })
}

#[inline(always)]
fn count_in_census(tgid: u32, by: i64) {
    if let Some(slot) = CENSUS.get_ptr_mut(census_slot(tgid)) {
        // SAFETY: a live, aligned word of the map.
        unsafe { atomic::fetch_add(slot, by) };
    }
}
