//go:build unix

// Package supervisor keeps the processes of a local run: it starts them, says when they end, and ends every one of them,
// with all that they started themselves, when the run ends, however the run ends.
//
// # Who watches whom
//
// The supervisor is a process of its own: the same executable, started again with a hidden argument (see [Main]), in a session of its own, so that
// Ctrl-C on a terminal reaches the run and not the processes that the run wants to heal first. It ignores SIGINT, SIGTERM and SIGHUP:
// its life is bound to the run's, and to nothing else. A socket pair connects the two. The end of the run's side, which the kernel closes
// with the run, is the order to end everything:
//
//	who dies            who acts          what happens
//	run, kill -9        supervisor        SIGTERM, 1 s later SIGKILL to every descendant until none is left; the runtime directory goes
//	a process           supervisor        its process group is killed, as the end of a container's first process ends the container; the run is told
//	supervisor, kill -9 kernel, then run  processes have it as their parent death signal; the run sweeps what they started
//	both at once        kernel, then heal the same, when somebody calls [SweepDead]
//
// On Linux the supervisor is a child subreaper: a daemon that forks twice, or leaves its session, becomes the supervisor's
// child when its parent dies. So "none is left" is not a guess from a list of processes: it is the kernel's ECHILD. A process that a
// daemon outside starts on request (docker run, systemd-run, at) is nobody's descendant and out of reach.
//
// Sweeping finds the processes of a run by the variable [Marker] in their environment, which the supervisor gives to
// each, and by their ancestors. A run is dead when nobody holds the lock on its runtime directory.
//
// Outside Linux there is no subreaper, no parent death signal and no /proc: then a process group is the unit. What leaves its
// group is not found, and nothing ends when the supervisor itself is killed.
package supervisor
