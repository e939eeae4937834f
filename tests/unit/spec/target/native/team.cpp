// Lets teams of 1 to 5 threads share phases of random size, in which some pieces take long, and checks that every unit of
// a phase is done once and before the next phase begins. Prints the number of phases. Built with sanitizers.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include "team.h"

using namespace edgeai;

int main() {
    uint64_t state = 1;
    const auto below = [&](int n) { return static_cast<int>((state = state * 6364136223846793005 + 1442695040888963407) >> 40) % n; };
    int phases = 0;
    for (int threads = 1; threads <= 5; threads++) {
        Team team(threads);
        for (int call = 0; call < 60; call++) {
            std::vector<int> sizes(below(20));
            for (int& size : sizes) size = below(4) ? below(40) : below(3);
            std::vector<std::vector<int>> done;  // how often each unit of each phase was done
            for (const int size : sizes) done.emplace_back(size);
            const int slow = below(6);
            team.run([&](Team::Member& self) {
                for (size_t p = 0; p < sizes.size(); p++)
                    self.share(sizes[p], [&](int begin, int end) {
                        if (slow == begin) std::this_thread::sleep_for(std::chrono::microseconds(300));
                        const int before = p ? std::accumulate(done[p - 1].begin(), done[p - 1].end(), 0) : 0;
                        if (p && before != sizes[p - 1]) std::printf("phase %zu began before its time\n", p), std::exit(1);
                        for (int i = begin; i < end; i++) done[p][i]++;
                    });
            });
            for (size_t p = 0; p < sizes.size(); p++, phases++)
                for (const int count : done[p])
                    if (count != 1) return std::printf("a unit of phase %zu was done %d times\n", p, count), 1;
        }
    }
    std::printf("%d\n", phases);
}
