# cython: language_level=3
"""Robust locks and pins: the two ways to keep memory from changing under one's feet.

A lock is a process-shared, robust mutex: the kernel passes it on when its owner dies, and the `dirty` word beside it
tells the next owner whether something was left half done. A lock that is not had within 50 ms (its owner was stopped,
not killed) is given up: the caller goes on as if the store had nothing. From then on this process only looks whether
the lock is free, and does not wait for it until it has had it once more; only what must be done insists, and waits.

A pin is a word in a table that belongs to one worker, so taking one needs no lock and no atomic addition: the unit of
the block and how many views of it that worker holds. Words that count nothing keep their unit until another takes
their place, so a reader of the table never sees one half written. A block's words can only lie in one set of eight;
when all eight count something, the pin is refused and the caller does without the block.
"""

from libc.stdint cimport uint32_t, uint64_t
from posix.time cimport clock_gettime, timespec

from flyby.store._layout cimport PIN_WAYS, Map, fence, load64, pins_at, pthread_mutex_t, store64, worker_at


cdef extern from "<errno.h>" nogil:
    int EBUSY
    int EOWNERDEAD


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutexattr_t:
        pass
    int PTHREAD_PROCESS_SHARED
    int PTHREAD_MUTEX_ROBUST
    int pthread_mutexattr_init(pthread_mutexattr_t*)
    int pthread_mutexattr_setpshared(pthread_mutexattr_t*, int)
    int pthread_mutexattr_setrobust(pthread_mutexattr_t*, int)
    int pthread_mutexattr_destroy(pthread_mutexattr_t*)
    int pthread_mutex_init(pthread_mutex_t*, const pthread_mutexattr_t*)
    int pthread_mutex_trylock(pthread_mutex_t*)
    int pthread_mutex_unlock(pthread_mutex_t*)
    int pthread_mutex_consistent(pthread_mutex_t*)


cdef extern from * nogil:
    """
    #include <pthread.h>
    #include <time.h>
    /* By the clock that nobody sets: a step of the wall clock must not prolong a wait. C libraries that cannot do so
       (glibc before 2.30, musl) wait by the wall clock. */
    #if defined(__GLIBC__) && __GLIBC_PREREQ(2, 30)
    #define FB_WAIT_CLOCK CLOCK_MONOTONIC
    #define fb_timedlock(lock, until) pthread_mutex_clocklock(lock, FB_WAIT_CLOCK, until)
    #else
    #define FB_WAIT_CLOCK CLOCK_REALTIME
    #define fb_timedlock(lock, until) pthread_mutex_timedlock(lock, until)
    #endif
    """
    int WAIT_CLOCK "FB_WAIT_CLOCK"
    int mutex_timedlock "fb_timedlock"(pthread_mutex_t*, const timespec*)


cdef enum:
    WAIT_NS = 50_000_000
    COUNT_SHIFT = 48


cdef int guard_format(pthread_mutex_t* lock) noexcept nogil:
    """0, or the error number."""
    cdef pthread_mutexattr_t attributes
    cdef int failed = pthread_mutexattr_init(&attributes)
    if not failed:
        failed = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED)
    if not failed:
        failed = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST)
    if not failed:
        failed = pthread_mutex_init(lock, &attributes)
    pthread_mutexattr_destroy(&attributes)
    return failed


cdef bint guard_take(Map* m, pthread_mutex_t* lock, uint32_t number, bint insist) noexcept nogil:
    """Whether the lock of that number is ours now; `dirty` beside it shows what its last owner left half done."""
    cdef timespec until
    cdef int code = pthread_mutex_trylock(lock)
    if code == EBUSY:
        if m.stands[number] and not insist:
            return False
        clock_gettime(WAIT_CLOCK, &until)
        until.tv_nsec += WAIT_NS
        if until.tv_nsec >= 1_000_000_000:
            until.tv_nsec -= 1_000_000_000
            until.tv_sec += 1
        code = mutex_timedlock(lock, &until)
    if code == EOWNERDEAD:
        code = pthread_mutex_consistent(lock)
    if code:
        worker_at(m, m.worker).busy += 1
        m.stands[number] = True
        return False
    m.stands[number] = False
    return True


cdef void guard_give(pthread_mutex_t* lock) noexcept nogil:
    pthread_mutex_unlock(lock)


cdef inline uint64_t* pin_set(Map* m, uint32_t worker, uint64_t unit) noexcept nogil:
    cdef uint64_t number = ((unit * <uint64_t>0x9E3779B97F4A7C15) >> 32) & (m.header.pin_sets - 1)
    return pins_at(m, worker) + number * PIN_WAYS


cdef bint pin(Map* m, uint64_t unit) noexcept nogil:
    """Hold a block; it is safe once its reference, read again after this, still stands."""
    cdef uint64_t* words = pin_set(m, m.worker, unit)
    cdef uint64_t count
    cdef int number, room = -1
    for number in range(PIN_WAYS):
        count = words[number] >> COUNT_SHIFT
        if words[number] & ((<uint64_t>1 << COUNT_SHIFT) - 1) == unit:
            room = number if count < 0xFFFF else -1
            break
        if not count and room < 0:
            room = number
    if room < 0:
        worker_at(m, m.worker).pin_overflows += 1
        return False
    count = words[room] >> COUNT_SHIFT
    store64(&words[room], unit | (count + 1) << COUNT_SHIFT)
    fence()
    return True


cdef void unpin(Map* m, uint64_t unit) noexcept nogil:
    cdef uint64_t* words = pin_set(m, m.worker, unit)
    cdef int number
    for number in range(PIN_WAYS):
        if words[number] & ((<uint64_t>1 << COUNT_SHIFT) - 1) == unit and words[number] >> COUNT_SHIFT:
            store64(&words[number], words[number] - (<uint64_t>1 << COUNT_SHIFT))
            return


cdef bint pinned(Map* m, uint64_t unit) noexcept nogil:
    """Whether any worker holds the block. Ask after its reference has been removed, and after a fence."""
    cdef uint64_t* words
    cdef uint64_t word
    cdef uint32_t worker
    cdef int number
    for worker in range(m.header.workers):
        words = pin_set(m, worker, unit)
        for number in range(PIN_WAYS):
            word = load64(&words[number])
            if word & ((<uint64_t>1 << COUNT_SHIFT) - 1) == unit and word >> COUNT_SHIFT:
                return True
    return False
