//! To which processes' requests a trace context is added: rules may turn it off or on.
//!
//! Where rules differ, the kernel programs add nothing for a process that has executed a program until its rule is looked up here.

use onlooker_common::selection::process_flag;

use super::Watch;
use crate::discover::process::Process;

impl Watch {
    /// Whether a trace context is added to requests of a process that is being selected.
    pub(super) fn injects(&self, process: &Process) -> bool {
        self.injection.is_none() || self.selectors.inject_into(process)
    }

    /// Looks up again whether a trace context is added to requests of a process, if it is selected.
    pub(super) fn judge_injection(&mut self, tgid: u32) {
        let Some(injection) = &mut self.injection else { return };
        let is_off = |flags: u64| flags & process_flag::NOT_INJECTED != 0;
        let Some(was_off) = self.selection.flags(tgid).map(is_off) else { return };
        if !was_off && !self.selectors.limit_injection() {
            return;
        }
        let Ok(process) = Process::open(tgid) else { return };
        let injects = self.selectors.inject_into(&process);
        if injects && was_off {
            injection.cover_process(&process);
        }
        self.selection.inject(tgid, injects);
    }
}
