# cython: language_level=3
"""Loads, stores and read-modify-writes that other processes see whole and in order, and what debug builds add.

A load acquires, a store releases; the rest is sequentially consistent. Built with FLYBY_FAULTS a process can be made
to die or to stop at any step, with FLYBY_BOUNDS it aborts when a place, a slot or a shard is used that is none.
"""

from libc.stdint cimport uint32_t, uint64_t


cdef extern from * nogil:
    """
    #include <stdint.h>
    static inline uint64_t fb_load64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline uint32_t fb_load32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline void fb_store64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline void fb_store32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline uint64_t fb_add64(uint64_t *p, uint64_t v) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }
    static inline uint64_t fb_or64(uint64_t *p, uint64_t v) { return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST); }
    static inline uint64_t fb_and64(uint64_t *p, uint64_t v) { return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST); }
    static inline uint64_t fb_swap64(uint64_t *p, uint64_t v) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); }
    static inline uint32_t fb_swap32(uint32_t *p, uint32_t v) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); }
    static inline void fb_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
    static inline int fb_log2(uint32_t v) { return 31 - __builtin_clz(v); }
    static inline int fb_low32(uint32_t v) { return __builtin_ctz(v); }
    static inline int fb_low64(uint64_t v) { return __builtin_ctzll(v); }
    #ifdef FLYBY_FAULTS
    #include <signal.h>
    #define FB_FAULTS 1
    static inline void fb_fault(uint64_t *left, int number) { if (*left && !--*left) raise(number); }
    #else
    #define FB_FAULTS 0
    static inline void fb_fault(uint64_t *left, int number) { (void)left; (void)number; }
    #endif
    #ifdef FLYBY_BOUNDS
    #include <stdlib.h>
    static inline void fb_within(uint64_t at, uint64_t end) { if (at >= end) abort(); }
    #else
    static inline void fb_within(uint64_t at, uint64_t end) { (void)at; (void)end; }
    #endif
    """
    uint64_t load64 "fb_load64"(const uint64_t* p)
    uint32_t load32 "fb_load32"(const uint32_t* p)
    void store64 "fb_store64"(uint64_t* p, uint64_t v)
    void store32 "fb_store32"(uint32_t* p, uint32_t v)
    uint64_t add64 "fb_add64"(uint64_t* p, uint64_t v)
    uint64_t or64 "fb_or64"(uint64_t* p, uint64_t v)
    uint64_t and64 "fb_and64"(uint64_t* p, uint64_t v)
    uint64_t swap64 "fb_swap64"(uint64_t* p, uint64_t v)
    uint32_t swap32 "fb_swap32"(uint32_t* p, uint32_t v)
    void fence "fb_fence"()
    int floor_log2 "fb_log2"(uint32_t v)
    int lowest32 "fb_low32"(uint32_t v)
    int lowest64 "fb_low64"(uint64_t v)
    bint FAULTS "FB_FAULTS"
    void fault "fb_fault"(uint64_t* left, int number)
    void within "fb_within"(uint64_t at, uint64_t end)  # a build with FLYBY_BOUNDS aborts where that is not so

