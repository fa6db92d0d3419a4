//! Types of `common` as keys and values of maps.

use aya::Pod;
use onlooker_common::capture::Capture;
use onlooker_common::frames::Confirmed;
use onlooker_common::injection::Destination;
use onlooker_common::selection::{Executable, Interest, ListeningPort, SelectedProcess};
use onlooker_common::unit::UnitSource;

macro_rules! plain {
    ($($name:ident: $of:ty;)+) => {
        $(
            #[repr(transparent)]
            #[derive(Debug, Clone, Copy)]
            pub(super) struct $name(pub(super) $of);
            // SAFETY: repr(C) integers without padding, by the sizes asserted in `common`: any bytes are a value.
            unsafe impl Pod for $name {}
        )+
    };
}

plain! {
    ProcessValue: SelectedProcess;
    ListenerKey: ListeningPort;
    CaptureValue: Capture;
    ConfirmedValue: Confirmed;
    ExecutableKey: Executable;
    InterestValue: Interest;
    UnitSourceValue: UnitSource;
    DestinationValue: Destination;
}
