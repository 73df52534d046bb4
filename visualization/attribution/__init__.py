"""Attribution: which part of an input an output rests on."""
