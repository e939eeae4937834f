#include "team.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace edgeai {

namespace {

// A thread that sleeps takes up to a millisecond to wake on virtual machines, as long as a third of a pass: it waits actively
// for about as long as drafting and sampling take.
constexpr int SPINS = 20000;

void relax() {
#if defined(__x86_64__)
    _mm_pause();
#else
    std::this_thread::yield();
#endif
}

}  // namespace

template <class Condition>
void Waiter::wait(Condition holds) {
    for (int i = 0; i < SPINS; i++) {
        if (holds()) return;
        relax();
    }
    // the others are not running: leave them this core
    std::unique_lock<std::mutex> lock(mutex_);
    sleeping_++;
    changed_.wait(lock, holds);
    sleeping_--;
}

void Waiter::notify() {
    if (!sleeping_.load()) return;
    { std::lock_guard<std::mutex> lock(mutex_); }
    changed_.notify_all();
}

Team::Team(int threads) : threads_(threads), cursors_(new Cursor[threads]) {
    for (int t = 1; t < threads; t++) workers_.emplace_back([this, t] { serve(t); });
}

Team::~Team() {
    stop_ = true;
    call_++;
    called_.notify();
    for (std::thread& worker : workers_) worker.join();
}

void Team::run(const std::function<void(Member&)>& work) {
    first_phase_ = phase_.load();
    work_ = &work;
    inside_.store(OPEN);
    call_++;
    called_.notify();
    Member self(*this, 0);
    work(self);
    inside_.fetch_sub(OPEN);  // who is late stays outside; who is inside may still read what belongs to the call
    left_.wait([this] { return inside_.load() == 0; });
}

void Team::serve(int thread) {
    for (uint64_t seen = 0;;) {
        called_.wait([&] { return call_.load() != seen; });
        seen = call_.load();
        if (stop_) return;
        int inside = inside_.load();
        while (inside >= OPEN && !inside_.compare_exchange_weak(inside, inside + 1)) {}
        if (inside < OPEN) continue;
        Member self(*this, thread);
        (*work_)(self);
        inside_--;
        left_.notify();
    }
}

int Team::take(int owner, uint64_t phase, int pieces) {
    std::atomic<uint64_t>& cursor = cursors_[owner].value;
    uint64_t seen = cursor.load();
    for (;;) {
        if (seen >> PIECE_BITS > phase) return -1;
        const int next = seen >> PIECE_BITS == phase ? static_cast<int>(seen & ((1 << PIECE_BITS) - 1)) : 0;
        if (next >= pieces) return -1;
        if (cursor.compare_exchange_weak(seen, (phase << PIECE_BITS) + next + 1)) return next;
    }
}

void Team::finish(uint64_t phase, int done, int units) {
    if (done && done_.fetch_add(done) + done == units) {
        done_.store(0);
        phase_.store(phase + 1);
        phase_ended_.notify();
    } else {
        phase_ended_.wait([&] { return phase_.load() > phase; });
    }
}

}  // namespace edgeai
