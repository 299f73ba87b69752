// Package care judges super-nodes for the operator: who is gone (Watch) and who does not serve what it should (Audit). Both are
// step machines: they take the time and what was seen as arguments, and say what to ask and whom to take off.
//
// # Silence
//
// The operator asks every super-node for a sign of life each round, and those that answer tell whom they have lost themselves.
// A super-node that misses [MissLimit] rounds is gone if half of those who share its range and answered say so too, or if
// nobody of them has answered. Where they go on hearing from it, the operator's own way to it is the likelier fault, and it
// stays until [MissAlone] rounds are missed. Nobody is taken off by others' word while the operator hears from it. When more than
// half of several super-nodes fall silent in one round, the operator's own network is the likelier fault and all need twice
// as many misses.
//
// # Withholding
//
// Spies, nodes with certificates of the domains that a super-node serves, ask for records of which the operator knows the
// truth. What a record's absence proves depends on whose word there is for it:
//
//	ask        the record is missing, or older than it was [Settled] ago        a miss: [pointsMiss] if the operator signed it
//	hand over  the spy stores the record there; the super-node acknowledges
//	ask again  missing or older still                                           proof by the operator's own eyes: [pointsProof]
//	           an answer that was signed by nobody who may                       as above
//
// [Isolate] points within [Window] isolate. A record that another super-node showed, such as a node's announcement, counts only
// by what follows the handing over, and only if it is handed over and acknowledged once more after the denial: its owner may
// have replaced it meanwhile by one that ran out at once. So no third party's word can cost an honest super-node a point. One
// that answers signs of life but leaves most questions unanswered is isolated for that, unless most others seem to do the same.
//
// # Refusing
//
// WrongRange by a super-node that serves the key by a map older than [Settled] is a denial, whatever map it names: a miss where it
// begins, and once everything has been denied for as long as a lost disk may take to be filled anew ([deniedFor]) it isolates.
// Busy may be true, so it weighs less: it isolates whoever has refused three quarters of all questions in 12 of the last 15
// minutes, in each of which most others of its range have refused a quarter at most. One that is as slow as all of its range is not
// found by that, and neither is a majority of a range that agrees to refuse; nor one that answers every third question. Readers
// pass each of these by: a refusal comes at once and has them ask the next.
//
// # Filling
//
// [HandOver] looks at those who take over a range until they have been proven to hold it. One that comes no further for
// [StallAfter], or twice that where it says to have all, that is, by a hundredth of what those who serve the range hold, loses its place: if another that fills goes on, or
// there is somebody in reserve to replace it. What it says itself counts up to what they say, the median of them. Time in which
// they do not answer counts for nobody. It is given nothing more to fill for [FillPause], longer each time, and goes on serving what
// it serves. A range whose holders disagree can have honest ones wait too; that costs them a pause, and nobody a record.
//
// # Isolation
//
// An isolated super-node stays on the map with its range; readers pass it by, spies go on asking. A person releases it.
package care
