"""Settings that no trainer of this release acts on. Each later capability deletes its lines here."""

from vishwamai.contract.resolution.draft import Draft


def answer(draft: Draft) -> None:
    """Decides the settings without a trainer behind them."""
    if draft["logging.profile_every"]:
        draft.decide("logging.profile_every", 0, "this release captures no profiles")
