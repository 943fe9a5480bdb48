//! The memory of one thread's JavaScript, and its limit.

use std::cell::Cell;
use std::rc::Rc;

use rquickjs::allocator::{Allocator, RustAllocator};

/// What QuickJS asks for at once for its small values is a page; what is larger belongs to one value.
const SMALL: usize = 16 << 10;

/// What one allocation takes beside what it was asked for.
const OVERHEAD: usize = 8;

/// How much memory is in use, and whether it was ever too much.
///
/// The engine copes badly with refused allocations within itself: a job that cannot be queued is lost without
/// a word. So beyond the limit only large allocations are refused, and small ones have a slack, which suffices
/// until the code that ran out of memory is interrupted.
#[derive(Debug)]
pub(super) struct Heap {
    used: Cell<usize>,
    limit: usize,
    slack: usize,
    exceeded: Cell<bool>,
}

impl Heap {
    pub(super) fn new(limit: usize) -> Rc<Self> {
        Rc::new(Self {
            used: Cell::new(0),
            limit,
            slack: (limit / 4).clamp(8 << 20, 64 << 20),
            exceeded: Cell::new(false),
        })
    }

    /// Bytes in use.
    pub(super) fn used(&self) -> usize {
        self.used.get()
    }

    /// The most bytes that may be in use.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether more than the limit was asked for, ever.
    pub(super) fn exceeded(&self) -> bool {
        self.exceeded.get()
    }

    fn admits(&self, size: usize) -> bool {
        let after = self
            .used
            .get()
            .saturating_add(size)
            .saturating_add(OVERHEAD);
        if after <= self.limit {
            return true;
        }
        self.exceeded.set(true);
        size <= SMALL && after <= self.limit.saturating_add(self.slack)
    }

    /// # Safety
    /// `at` is null or was allocated by a [`RustAllocator`].
    unsafe fn took(&self, at: *mut u8) -> *mut u8 {
        if !at.is_null() {
            // SAFETY: as of the function.
            let size = unsafe { RustAllocator::usable_size(at) };
            self.used.set(self.used.get() + size + OVERHEAD);
        }
        at
    }

    fn gave_back(&self, size: usize) {
        self.used
            .set(self.used.get().saturating_sub(size + OVERHEAD));
    }
}

/// Allocates from the global allocator, and counts on a [`Heap`].
pub(super) struct HeapAllocator(pub(super) Rc<Heap>);

// SAFETY: every pointer comes from `RustAllocator`, which keeps the contract; null is returned instead of some.
unsafe impl Allocator for HeapAllocator {
    fn alloc(&mut self, size: usize) -> *mut u8 {
        if !self.0.admits(size) {
            return std::ptr::null_mut();
        }
        // SAFETY: it was just allocated there.
        unsafe { self.0.took(RustAllocator.alloc(size)) }
    }

    fn calloc(&mut self, count: usize, size: usize) -> *mut u8 {
        match count.checked_mul(size) {
            Some(total) if self.0.admits(total) => {
                // SAFETY: it was just allocated there.
                unsafe { self.0.took(RustAllocator.calloc(count, size)) }
            }
            _ => std::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&mut self, ptr: *mut u8) {
        // SAFETY: the caller got `ptr` from this allocator, so from `RustAllocator`.
        unsafe {
            self.0.gave_back(RustAllocator::usable_size(ptr));
            RustAllocator.dealloc(ptr);
        }
    }

    unsafe fn realloc(&mut self, ptr: *mut u8, new_size: usize) -> *mut u8 {
        if ptr.is_null() {
            return self.alloc(new_size);
        }
        // SAFETY: the caller got `ptr` from this allocator, so from `RustAllocator`.
        unsafe {
            let old = RustAllocator::usable_size(ptr);
            if new_size > old && !self.0.admits(new_size - old) {
                return std::ptr::null_mut();
            }
            let moved = RustAllocator.realloc(ptr, new_size);
            if !moved.is_null() {
                self.0.gave_back(old);
                self.0.took(moved);
            }
            moved
        }
    }

    unsafe fn usable_size(ptr: *mut u8) -> usize {
        // SAFETY: the caller got `ptr` from this allocator, so from `RustAllocator`.
        unsafe { RustAllocator::usable_size(ptr) }
    }
}
