"""What becomes of a detection when HaMeR has looked at it, and why. Pure."""

from enum import StrEnum


class Verdict(StrEnum):
    """The outcome for a detection, as metrics and `detect --explain` name it."""

    reason: str
    """For people."""

    def __new__(cls, name: str, reason: str) -> "Verdict":
        """Makes a member of its name and reason."""
        verdict = str.__new__(cls, name)
        verdict._value_ = name
        verdict.reason = reason
        return verdict

    KEPT = "kept", "HaMeR doesn't contradict it"
    BAD_BOX = "bad_box", "the box is empty, not finite, absurdly large or off the frame; HaMeR didn't see it"
    NOT_FINITE = "not_finite", "the network's output has NaN or infinity"
    IMPLAUSIBLE = "implausible", "the shape, the pose or the camera is impossible for a hand"
    TOO_SMALL = "too_small", "the hand has too few pixels to be judged"
    OFF_CENTRE = "off_centre", "the projected hand is beside the box"
    WRONG_SIZE = "wrong_size", "the projected hand is much smaller or larger than the box"
    NO_OVERLAP = "no_overlap", "the projected hand's box and the detection's overlap too little"
    OUTSIDE = "outside", "too many joints are outside the crop"
    OTHER_JOINTS = "other_joints", "the joints are far from the detector's"
    DUPLICATE = "duplicate", "a more confident detection is the same hand"
