//! The native part of Onlooker's Java agent: a JVM TI agent library that needs no other library.
//!
//! The JVM loads it when Onlooker asks for it through the attach protocol. It defines the classes of `java/src/onlooker` in
//! the boot loader, where `sun.security.ssl` finds them, and has the JVM weave calls of them into `sun.security.ssl`. Nothing
//! is left to do for it then, except when another agent has the same classes woven again.
//!
//! The function [`onlooker_java_observe`] does nothing. A kernel program is attached to it. While none is, the woven methods see that by
//! its first byte and do nothing either. So nobody has to switch them off when Onlooker ends, however it ends.
//!
//! The functions of the JVM are found by their place in its tables: JNI Specification chapter 4, JVM TI 1.2.

#![no_std]

use core::ffi::{CStr, c_char, c_void};
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

type Object = *mut c_void;
type Method = *mut c_void;
/// A pointer to a table of functions, which is the first argument of each.
type Table = *const *const *const c_void;

const JNI_VERSION_1_6: i32 = 0x0001_0006;
const JVMTI_VERSION_1_2: i32 = 0x3001_0200;

/// What [`Agent_OnAttach`] returns. The JVM passes it on to Onlooker.
mod outcome {
    /// It has not returned yet.
    pub(crate) const PENDING: i32 = -1;
    pub(crate) const WOVEN: i32 = 0;
    /// The JVM has no JVM TI 1.2, or cannot weave classes that are loaded.
    pub(crate) const UNSUPPORTED: i32 = 101;
    /// The classes are there already, or the JVM refuses them.
    pub(crate) const NOT_DEFINED: i32 = 102;
    /// The classes of `sun.security.ssl` look different.
    pub(crate) const UNKNOWN_LAYOUT: i32 = 103;
    /// The JVM refuses the woven classes.
    pub(crate) const NOT_WOVEN: i32 = 104;
}

/// The outcome, for an agent that finds the library in the JVM. The library stays mapped after a failure.
#[unsafe(no_mangle)]
pub static onlooker_java_outcome: AtomicI32 = AtomicI32::new(outcome::PENDING);

/// The class with the native methods.
const NATIVE: &CStr = c"onlooker/Native";
const LOADER: &CStr = c"onlooker/Loader";

macro_rules! class {
    ($name:literal) => {
        include_bytes!(concat!(env!("ONLOOKER_JAVA_CLASSES"), "/onlooker/", $name, ".class"))
    };
}

/// Without the classes that are their superclasses, the order is free.
static CLASSES: [(&CStr, &[u8]); 9] = [
    (NATIVE, class!("Native")),
    (LOADER, class!("Loader")),
    (c"onlooker/Slots", class!("Slots")),
    (c"onlooker/Ids", class!("Ids")),
    (c"onlooker/Ids$Key", class!("Ids$Key")),
    (c"onlooker/Ids$Probe", class!("Ids$Probe")),
    (c"onlooker/Tap", class!("Tap")),
    (c"onlooker/Tap$Content", class!("Tap$Content")),
    (c"onlooker/Tap$Write", class!("Tap$Write")),
];

static WEAVER: &[u8] = include_bytes!(concat!(env!("ONLOOKER_JAVA_CLASSES"), "/weaver.jar"));

/// Names of the classes that are woven begin with this.
const WOVEN: &[u8] = b"sun/security/ssl/SSL";

/// 24 slots of `onlooker.Slots`.
const MEMORY_BYTES: usize = 24 * (16 + (1 << 14));

#[repr(C, align(4096))]
struct Memory([u8; MEMORY_BYTES]);

/// Written by `onlooker.Slots` only.
static mut MEMORY: Memory = Memory([0; MEMORY_BYTES]);

/// The class `onlooker.Loader`.
static LOADER_CLASS: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
static WEAVE: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

/// `onlooker.Native.observe`: the kernel program is attached here.
///
/// The nop has the length of a call on x86-64, so that a kernel since 6.18 replaces it by one. A trap costs more.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub extern "C" fn onlooker_java_observe() {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!(".byte 0x0f, 0x1f, 0x44, 0x00, 0x00", "ret");
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!("nop", "ret");
}

/// The first byte of `onlooker_java_observe`.
const FIRST_BYTE: i8 = if cfg!(target_arch = "x86_64") { 0x0f } else { 0x1f };

/// JNI functions, with their places in the table.
#[derive(Clone, Copy)]
struct Jni(Table);

/// JVM TI functions, with their places in the table. The specification counts from 1.
#[derive(Clone, Copy)]
struct JvmTi(Table);

macro_rules! functions {
    ($of:ident { $($name:ident = $place:literal ($($argument:ident: $type:ty),*) $(-> $result:ty)?;)* }) => {
        impl $of {
            $(
                unsafe fn $name(self, $($argument: $type),*) $(-> $result)? {
                    type Function = unsafe extern "C" fn(Table $(, $type)*) $(-> $result)?;
                    // SAFETY: the table has a function of this type at this place. The caller ensures its preconditions.
                    unsafe {
                        let function = core::mem::transmute::<*const c_void, Function>(*(*self.0).add($place));
                        function(self.0 $(, $argument)*)
                    }
                }
            )*
        }
    };
}

functions! { Jni {
    define_class = 5(name: *const c_char, loader: Object, code: *const u8, length: i32) -> Object;
    exception_occurred = 15() -> Object;
    exception_clear = 17();
    throw = 13(exception: Object) -> i32;
    new_global_ref = 21(object: Object) -> Object;
    delete_local_ref = 23(object: Object);
    get_static_method_id = 113(class: Object, name: *const c_char, signature: *const c_char) -> Method;
    call_static_object_method_a = 116(class: Object, method: Method, arguments: *const Object) -> Object;
    new_string_utf = 167(text: *const c_char) -> Object;
    get_array_length = 171(array: Object) -> i32;
    get_object_array_element = 173(array: Object, index: i32) -> Object;
    new_byte_array = 176(length: i32) -> Object;
    get_byte_array_region = 200(array: Object, start: i32, length: i32, into: *mut u8);
    set_byte_array_region = 208(array: Object, start: i32, length: i32, from: *const u8);
    register_natives = 215(class: Object, methods: *const NativeMethod, count: i32) -> i32;
    exception_check = 228() -> u8;
    new_direct_byte_buffer = 229(address: *mut c_void, capacity: i64) -> Object;
} }

functions! { JvmTi {
    set_event_notification_mode = 1(mode: i32, event: i32, thread: Object) -> i32;
    allocate = 45(size: i64, into: *mut *mut u8) -> i32;
    deallocate = 46(memory: *mut u8) -> i32;
    set_event_callbacks = 121(callbacks: *const Callbacks, size: i32) -> i32;
    dispose_environment = 126() -> i32;
    add_capabilities = 141(capabilities: *const [u8; 16]) -> i32;
    retransform_classes = 151(count: i32, classes: *const Object) -> i32;
} }

/// `JNINativeMethod`
#[repr(C)]
struct NativeMethod {
    name: *const c_char,
    signature: *const c_char,
    function: *const c_void,
}

/// `jvmtiEventCallbacks`
type Callbacks = [*const c_void; 37];
/// The place of `ClassFileLoadHook` there, and its event.
const CLASS_FILE_LOAD_HOOK: usize = 4;
const CLASS_FILE_LOAD_EVENT: i32 = 54;
const ENABLE: i32 = 1;
/// `can_retransform_classes` is bit 37.
static CAN_RETRANSFORM_CLASSES: [u8; 16] = [0, 0, 0, 0, 1 << 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// `JNIInvokeInterface.GetEnv`
const GET_ENV: usize = 6;

const CLASSES_WOVEN: usize = 8;

/// The JVM calls this when Onlooker asks for the library.
///
/// # Safety
/// `vm` is a JVM, and the thread belongs to it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn Agent_OnAttach(vm: Table, _options: *const c_char, _reserved: *mut c_void) -> i32 {
    // SAFETY: the caller ensures the preconditions.
    let outcome = unsafe { attach(vm) };
    onlooker_java_outcome.store(outcome, Ordering::Release);
    outcome
}

unsafe fn attach(vm: Table) -> i32 {
    // SAFETY: the JVM calls this as JVM TI says.
    unsafe {
        let Some(jni) = environment(vm, JNI_VERSION_1_6).map(Jni) else { return outcome::UNSUPPORTED };
        let Some(jvm_ti) = environment(vm, JVMTI_VERSION_1_2).map(JvmTi) else { return outcome::UNSUPPORTED };
        let outcome = install(jni, jvm_ti);
        if outcome != outcome::WOVEN {
            let _ = is_clear(jni);
            let _ = jvm_ti.dispose_environment();
        }
        outcome
    }
}

/// The table of functions of a version.
unsafe fn environment(vm: Table, version: i32) -> Option<Table> {
    type GetEnv = unsafe extern "C" fn(Table, *mut Table, i32) -> i32;
    let mut table: Table = null();
    // SAFETY: the table of a JVM has `GetEnv` there.
    let result = unsafe {
        let get = core::mem::transmute::<*const c_void, GetEnv>(*(*vm).add(GET_ENV));
        get(vm, &raw mut table, version)
    };
    (result == 0 && !table.is_null()).then_some(table)
}

/// Whether no exception is pending. One that is pending is cleared.
unsafe fn is_clear(jni: Jni) -> bool {
    // SAFETY: allowed at any time.
    unsafe {
        let clear = jni.exception_check() == 0;
        if !clear {
            jni.exception_clear();
        }
        clear
    }
}

unsafe fn install(jni: Jni, jvm_ti: JvmTi) -> i32 {
    // SAFETY: the arguments have the types that the functions expect, and no exception is pending when they are called.
    unsafe {
        if jvm_ti.add_capabilities(&raw const CAN_RETRANSFORM_CLASSES) != 0 {
            return outcome::UNSUPPORTED;
        }
        let Some((native, loader)) = define(jni) else { return outcome::NOT_DEFINED };
        let methods = native_methods();
        if jni.register_natives(native, methods.as_ptr(), methods.len() as i32) != 0 || !is_clear(jni) {
            return outcome::NOT_DEFINED;
        }
        let start = jni.get_static_method_id(loader, c"start".as_ptr(), c"([B)[Ljava/lang/Class;".as_ptr());
        let weave = jni.get_static_method_id(loader, c"weave".as_ptr(), c"(Ljava/lang/String;[B)[B".as_ptr());
        let global = jni.new_global_ref(loader);
        if !is_clear(jni) || start.is_null() || weave.is_null() || global.is_null() {
            return outcome::NOT_DEFINED;
        }
        let Some(archive) = byte_array(jni, WEAVER) else { return outcome::NOT_DEFINED };
        let classes = jni.call_static_object_method_a(loader, start, &raw const archive);
        if !is_clear(jni) || classes.is_null() {
            return outcome::UNKNOWN_LAYOUT;
        }
        WEAVE.store(weave, Ordering::Release);
        LOADER_CLASS.store(global, Ordering::Release);
        let mut targets = [null_mut(); CLASSES_WOVEN];
        let count = jni.get_array_length(classes).clamp(0, CLASSES_WOVEN as i32);
        for (index, target) in targets.iter_mut().enumerate().take(count as usize) {
            *target = jni.get_object_array_element(classes, index as i32);
        }
        let mut callbacks: Callbacks = [null(); 37];
        callbacks[CLASS_FILE_LOAD_HOOK] = class_file_load_hook as *const c_void;
        let enabled = jvm_ti.set_event_callbacks(&raw const callbacks, size_of::<Callbacks>() as i32) == 0
            && jvm_ti.set_event_notification_mode(ENABLE, CLASS_FILE_LOAD_EVENT, null_mut()) == 0;
        if !enabled {
            return outcome::UNSUPPORTED;
        }
        let woven = jvm_ti.retransform_classes(count, targets.as_ptr()) == 0;
        if is_clear(jni) && woven { outcome::WOVEN } else { outcome::NOT_WOVEN }
    }
}

/// Defines the classes in the boot loader. Returns `Native` and `Loader`.
unsafe fn define(jni: Jni) -> Option<(Object, Object)> {
    let (mut native, mut loader) = (null_mut(), null_mut());
    for (name, code) in CLASSES {
        // SAFETY: the name ends with NUL, and the class has this length.
        let class = unsafe { jni.define_class(name.as_ptr(), null_mut(), code.as_ptr(), code.len() as i32) };
        // SAFETY: allowed at any time.
        if !unsafe { is_clear(jni) } || class.is_null() {
            return None;
        }
        match name {
            _ if name == NATIVE => native = class,
            _ if name == LOADER => loader = class,
            _ => {}
        }
    }
    Some((native, loader))
}

fn native_methods() -> [NativeMethod; 5] {
    let method = |name: &'static CStr, signature: &'static CStr, function| NativeMethod {
        name: name.as_ptr(),
        signature: signature.as_ptr(),
        function,
    };
    [
        method(c"observe", c"(JJJJ)V", onlooker_java_observe as *const c_void),
        method(c"code", c"()Ljava/nio/ByteBuffer;", code as *const c_void),
        method(c"unobserved", c"()B", unobserved as *const c_void),
        method(c"memory", c"()Ljava/nio/ByteBuffer;", memory as *const c_void),
        method(c"address", c"()J", address as *const c_void),
    ]
}

/// `onlooker.Native.code`
unsafe extern "C" fn code(jni: Table, _class: Object) -> Object {
    // SAFETY: the byte exists as long as the library, which is never unloaded. The JVM only reads it.
    unsafe { Jni(jni).new_direct_byte_buffer(onlooker_java_observe as *mut c_void, 1) }
}

/// `onlooker.Native.unobserved`
extern "C" fn unobserved(_jni: Table, _class: Object) -> i8 {
    FIRST_BYTE
}

/// `onlooker.Native.memory`
unsafe extern "C" fn memory(jni: Table, _class: Object) -> Object {
    // SAFETY: the memory exists as long as the library, and nothing else uses it.
    unsafe { Jni(jni).new_direct_byte_buffer((&raw mut MEMORY).cast(), MEMORY_BYTES as i64) }
}

/// `onlooker.Native.address`
extern "C" fn address(_jni: Table, _class: Object) -> i64 {
    (&raw const MEMORY).addr() as i64
}

/// A new array of the JVM with these bytes.
unsafe fn byte_array(jni: Jni, bytes: &[u8]) -> Option<Object> {
    let length = i32::try_from(bytes.len()).ok()?;
    // SAFETY: the array has this length.
    unsafe {
        let array = jni.new_byte_array(length);
        if !is_clear(jni) || array.is_null() {
            return None;
        }
        jni.set_byte_array_region(array, 0, length, bytes.as_ptr());
        Some(array)
    }
}

/// `ClassFileLoadHook`: the JVM calls it for every class that is loaded or woven again.
unsafe extern "C" fn class_file_load_hook(
    jvm_ti: Table,
    jni: Table,
    redefined: Object,
    _loader: Object,
    name: *const c_char,
    _protection_domain: Object,
    length: i32,
    code: *const u8,
    new_length: *mut i32,
    new_code: *mut *mut u8,
) {
    // The classes to be woven were loaded before. Another class of this name is somebody else's.
    if redefined.is_null() || name.is_null() {
        return;
    }
    // SAFETY: the JVM passes a string that ends with NUL, and code of this length.
    unsafe {
        let name = CStr::from_ptr(name);
        if !name.to_bytes().starts_with(WOVEN) {
            return;
        }
        let Some((woven, length)) = weave(JvmTi(jvm_ti), Jni(jni), name, code, length) else { return };
        *new_length = length;
        *new_code = woven;
    }
}

/// Returns the woven class in memory of the JVM.
unsafe fn weave(jvm_ti: JvmTi, jni: Jni, name: &CStr, code: *const u8, length: i32) -> Option<(*mut u8, i32)> {
    let loader = LOADER_CLASS.load(Ordering::Acquire);
    let method = WEAVE.load(Ordering::Acquire);
    let length = usize::try_from(length).ok()?;
    // SAFETY: as for the caller. An exception that is pending is put aside while other functions are called.
    unsafe {
        let pending = jni.exception_occurred();
        if !pending.is_null() {
            jni.exception_clear();
        }
        let name = jni.new_string_utf(name.as_ptr());
        let original = byte_array(jni, core::slice::from_raw_parts(code, length));
        let mut woven = None;
        if is_clear(jni)
            && !name.is_null()
            && let Some(original) = original
        {
            let array = jni.call_static_object_method_a(loader, method, [name, original].as_ptr());
            if is_clear(jni) && !array.is_null() {
                woven = copy(jvm_ti, jni, array);
                jni.delete_local_ref(array);
            }
            jni.delete_local_ref(original);
        }
        if !name.is_null() {
            jni.delete_local_ref(name);
        }
        if !pending.is_null() {
            let _ = jni.throw(pending);
            jni.delete_local_ref(pending);
        }
        woven
    }
}

/// Copies an array to memory of the JVM.
unsafe fn copy(jvm_ti: JvmTi, jni: Jni, array: Object) -> Option<(*mut u8, i32)> {
    // SAFETY: the memory has the length of the array.
    unsafe {
        let length = jni.get_array_length(array);
        let mut memory: *mut u8 = null_mut();
        if jvm_ti.allocate(i64::from(length), &raw mut memory) != 0 || memory.is_null() {
            return None;
        }
        jni.get_byte_array_region(array, 0, length, memory);
        if is_clear(jni) {
            Some((memory, length))
        } else {
            let _ = jvm_ti.deallocate(memory);
            None
        }
    }
}

/// Nothing here panics.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
