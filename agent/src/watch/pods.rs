//! What follows when pods become known or change.

use std::sync::atomic::Ordering::Relaxed;

use super::Watch;
use super::selecting::Since;
use crate::kubernetes::News;

impl Watch {
    /// Completes services by what became known about pods, and applies rules about pods to processes that waited for theirs. Returns
    /// whether all processes must be looked at, because other rules may apply to them.
    pub(super) fn take_news_of_pods(&mut self) -> bool {
        let Some(News { arrived, is_relabelled }) = self.selectors.pods().and_then(|pods| pods.take_news()) else {
            return false;
        };
        if self.selectors.match_pods() {
            for pid in arrived {
                self.judge(pid, Since::Before);
            }
        }
        if self.services.pods_changed() {
            // Spans from now on have what is known now.
            self.missed.fetch_add(1, Relaxed);
        }
        is_relabelled && self.selectors.match_pods()
    }
}
