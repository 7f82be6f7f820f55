"""A search space: YAML in, Optuna suggestions and TrainConfigs out.

`search_space` holds SearchSpace and the way in; `reading`, `parameters`, `points` and `settings`
its sections; `faults` how all that is wrong with a file is told at once.
"""

from tune.space.parameters import Parameter
from tune.space.search_space import SPACES, SearchSpace, load_space, parse_space
from tune.space.settings import Asha, Budget, Confirm, Objective, Resources, Sampler

__all__ = [
    "SPACES",
    "Asha",
    "Budget",
    "Confirm",
    "Objective",
    "Parameter",
    "Resources",
    "Sampler",
    "SearchSpace",
    "load_space",
    "parse_space",
]
