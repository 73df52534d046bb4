"""The doctor: verdicts on a training from what it recorded and from short trials.

The questions are those of a systematic search for why a network does not learn: can it learn at
all, does it over- or underfit, do gradients vanish or explode, are rate, length and size right?
"""

from visualization.diagnosis.diagnose import QUESTIONS, diagnose, of_records
from visualization.diagnosis.evidence import BASELINE, Leak, RateTest, RunEvidence, Trial
from visualization.diagnosis.findings import Answer, Diagnosis, Evidence, Finding, Panel
from visualization.diagnosis.rates import has_diverged, rate_test

__all__ = [
    "BASELINE",
    "QUESTIONS",
    "Answer",
    "Diagnosis",
    "Evidence",
    "Finding",
    "Leak",
    "Panel",
    "RateTest",
    "RunEvidence",
    "Trial",
    "diagnose",
    "has_diverged",
    "of_records",
    "rate_test",
]
