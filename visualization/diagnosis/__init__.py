"""The doctor: verdicts on a training from what it recorded and from short trials.

The questions are those of a systematic search for why a network does not learn: can it learn at
all, does it over- or underfit, do gradients vanish or explode, are rate, length and size right?
"""

from visualization.diagnosis.case import AS_IS, Case, Leak, RateTest, Trial
from visualization.diagnosis.diagnose import QUESTIONS, diagnose
from visualization.diagnosis.findings import Answer, Diagnosis, Evidence, Finding, Panel
from visualization.diagnosis.rates import has_diverged, rate_test

__all__ = [
    "AS_IS", "QUESTIONS", "Answer", "Case", "Diagnosis", "Evidence", "Finding", "Leak", "Panel",
    "RateTest", "Trial", "diagnose", "has_diverged", "rate_test",
]  # fmt: skip
