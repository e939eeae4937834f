// Threads that share the work of a call, phase by phase.
//
// Every thread owns a part of each phase and takes its pieces one after another; one that has finished takes pieces of the
// others. A phase ends when its pieces are done, not when all threads have arrived: a thread that the system does not run
// delays the others by the piece it holds, and one that comes late passes over what is done. Any thread may compute any
// piece, in any order.
#pragma once
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace edgeai {

// Waits until a condition holds: spins, then sleeps.
class Waiter {
public:
    template <class Condition>
    void wait(Condition holds);
    void notify();  // after each change of what the condition reads

private:
    std::atomic<int> sleeping_{0};
    std::mutex mutex_;
    std::condition_variable changed_;
};

class Team {
public:
    // A thread during one call.
    class Member {
    public:
        Member(Team& team, int number) : thread(number), threads(team.threads_), team_(team), phase_(team.first_phase_) {}
        const int thread, threads;

        // Calls work(begin, end) for the parts of `units` units that this thread takes; returns when all units are done.
        template <class Work>
        void share(int units, Work work) {
            if (threads == 1 || !units) {
                if (units) work(0, units);
                return;
            }
            int done = 0;
            for (int i = 0; i < threads; i++) {
                const int owner = (thread + i) % threads, first = boundary(units, owner, threads);
                const int size = boundary(units, owner + 1, threads) - first, pieces = std::min(size, PIECES);
                for (int piece; (piece = team_.take(owner, phase_, pieces)) >= 0;) {
                    const int begin = first + boundary(size, piece, pieces), end = first + boundary(size, piece + 1, pieces);
                    work(begin, end);
                    done += end - begin;
                }
            }
            team_.finish(phase_++, done, units);
        }

    private:
        static constexpr int PIECES = 4;  // of a thread's part of a phase
        static int boundary(int64_t count, int part, int parts) { return static_cast<int>(count * part / parts); }
        Team& team_;
        uint64_t phase_;
    };

    explicit Team(int threads);
    ~Team();
    // Calls work(member) on this thread, and on every other that comes in time.
    void run(const std::function<void(Member&)>& work);

private:
    static constexpr int PIECE_BITS = 8;  // of a cursor; the others count phases
    static constexpr int OPEN = 1 << 30;  // of inside_; the others count workers
    struct alignas(64) Cursor {
        std::atomic<uint64_t> value{0};  // phase, and the next piece of the owner's part
    };
    int take(int owner, uint64_t phase, int pieces);  // a piece, or -1
    void finish(uint64_t phase, int done, int units);
    void serve(int thread);

    const int threads_;
    std::unique_ptr<Cursor[]> cursors_;
    std::atomic<uint64_t> phase_{1}, call_{0};
    std::atomic<int> done_{0}, inside_{0};
    std::atomic<bool> stop_{false};
    uint64_t first_phase_ = 1;
    const std::function<void(Member&)>* work_ = nullptr;
    Waiter phase_ended_, called_, left_;
    std::vector<std::thread> workers_;
};

}  // namespace edgeai
