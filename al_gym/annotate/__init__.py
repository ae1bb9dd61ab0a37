"""A person in the loop: a page that asks for the labels that help most.

    python -m al_gym.annotate --root my_scans --classes nodule cord artery node

It needs the extra ``annotate``. One process shows the page, another trains and asks; they share
``answers.sqlite`` in the folder of the project (``store``). ``HumanAnnotator`` puts the same people
into an RL loop of one's own.
"""

from al_gym.annotate.human import HumanAnnotator, Stopped
from al_gym.annotate.store import NotSaved, Refused, Store

__all__ = ["HumanAnnotator", "NotSaved", "Refused", "Stopped", "Store"]
