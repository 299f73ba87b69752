package punch

import "time"

// The budget of one attempt. A side sends at most about 6,000 packets of 44 bytes in 6.5 s, mostly far less.
const (
	// plainEvery: often enough that the first packet after the other NAT has opened follows at once, and 1/10 of a phone call.
	plainEvery = 50 * time.Millisecond
	// plainTime: the two ends start up to a round trip apart, and at 20% loss each way this is 40 chances for a round trip.
	plainTime = 5 * time.Second
	// mostTargets is as many candidates as a record may hold.
	mostTargets = 8
	// mostPaths bounds what a peer with many sockets makes this side remember and answer.
	mostPaths = 16
	// pathLife: a path that is heard of no more leaves room for another one.
	pathLife = time.Second

	// hardHead is what plain packets get before sockets are opened: one round trip across a continent, in which they get
	// through where the easy side's NAT does not filter by port.
	hardHead = 250 * time.Millisecond
	// foreseenHead is shorter, since prediction costs little and other traffic makes it worse with time.
	foreseenHead = 100 * time.Millisecond
	// unknownHead is what two sides of which one knows nothing about its NAT give to the likely case.
	unknownHead = time.Second

	// wideSockets: with 256 of 64,512 ports open, a random one meets with 0.4%; half of all meetings take 175 probes. A home
	// router's table has 2,000 entries and more.
	wideSockets = 256
	// fewSockets: prediction needs one; more of them bridge what other traffic takes in between.
	fewSockets = 16
	// holeEvery: one a millisecond opens all in 256 ms, without a burst that a router's slow path drops.
	holeEvery = time.Millisecond
	// holeRepeat brings a lost one again, and keeps the filters open.
	holeRepeat = time.Second
	// fewRepeat is the same for 16 sockets.
	fewRepeat = 250 * time.Millisecond

	// probeEvery: 500 a second. Measured: found in 0.4 s in the median, 1.4 s at most, in 40 of 40; faster is taken for a scan.
	probeEvery = 2 * time.Millisecond
	// mostProbes is all that one attempt may send to ports nobody announced: 1 − (1 − 256/64,512)^2000 = 99.96%.
	mostProbes = 2000
	// aheadPorts is how far prediction looks, in ports of the observed step.
	aheadPorts = 64
	// aheadRounds is how often all of them are tried, aheadRound how long one lasts: 64 probes and a pause.
	aheadRounds = 4
	aheadRound  = 300 * time.Millisecond
	// nearPorts is where the birthday method looks first behind a NAT whose prediction failed.
	nearPorts = 1024
	// lowestPort is where NATs begin to give out ports.
	lowestPort = 1024
	// mostBurst is what one late tick makes up for.
	mostBurst = 16

	// mutualTime and hopelessTime end early what hardly works.
	mutualTime   = 1500 * time.Millisecond
	hopelessTime = time.Second
	// lastEcho is waited for after the last probe.
	lastEcho = time.Second
	// answerTime is how long a requester waits for the tunnel-node's answer.
	answerTime = 10 * time.Second

	// echoLife is how old a serial may be when its echo proves something.
	echoLife = 3 * time.Second
	// chooseWindow lets a better path than the first one be proven.
	chooseWindow = 30 * time.Millisecond
	// chooseTime is how long the requester repeats its choice: 30 times; then the path has died.
	chooseTime = 1500 * time.Millisecond
	// lingerTime is how long the tunnel-node confirms a choice whose confirmation may have been lost.
	lingerTime = 1500 * time.Millisecond
	// settledTime: with a path proven so lately, nothing is sent to ports and from sockets by the way.
	settledTime = 500 * time.Millisecond

	// answersAtOnce and answersPerSecond bound what packets, also replayed ones, make this side answer.
	answersAtOnce    = 64
	answersPerSecond = 400
)
