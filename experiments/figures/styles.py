"""How methods look in figures: the label, colour and line of each, by subject."""

IMAGES = {
    "deferral": ("learning to defer", "C0", "-"),
    "confidence": ("defer by confidence", "C1", "--"),
    "classifier": ("classifier alone", "C2", "-."),
    "expert": ("expert alone", "C3", ":"),
}

TABLES = {
    "classifier": ("fair classifier", "C2", ":"),
    "rejection_thresholds": ("reject, thresholds", "C1", "--"),
    "deferral_thresholds": ("defer, thresholds", "C1", "-"),
    "rejection": ("reject", "C0", "--"),
    "mixture": ("defer", "C0", "-"),
    "mixture_oracle": ("defer, trained with an oracle", "C3", "-"),
}

PEOPLE = {
    "none": ("no fine-tuning", "C7", "-"),
    "finetune": ("fine-tuning", "C0", "-"),
    "self_training": ("self-training", "C1", "--"),
    "propagation": ("label propagation", "C2", "-."),
    "crowd": ("crowd, without the person", "C4", ":"),
    "population": ("population (ours)", "C3", "-"),
}

UNSEEN = {
    "beta_counts": ("Beta counts", "k", "-"),
    "context_mean": ("L2D-Pop, mean", "C0", "-"),
    "context_attentive": ("L2D-Pop, attentive", "C1", "-"),
    "context_mean_softmax": ("L2D-Pop, mean, softmax", "C0", "--"),
    "context_attentive_softmax": ("L2D-Pop, attentive, softmax", "C1", "--"),
    "population": ("population (ours)", "C3", "-"),
    "finetune": ("fine-tuning", "C2", "-"),
    "crowd": ("crowd, without the person", "C4", ":"),
    "skill": ("skill known", "0.5", "-."),
}

ALONE = {
    "classifier": ("classifier alone", "C5", ":"),
    "expert": ("person alone", "C6", ":"),
}

TRIPS = {
    "none": ("no\nfine-tuning", "C3", ":"),
    "finetune": ("fine-tuning", "C1", "--"),
    "self_training": ("self-training", "C2", "-."),
    "hierarchical": ("hierarchical\n(ours)", "C0", "-"),
    "known_mean": ("known\nmean", "0.45", "-"),
    "ideal": ("ideal", "0.7", "-"),
}

STREAMS = {
    "competence": ("competence (ours)", "C0", "-"),
    "smooth": ("Smooth-Matching", "C1", "-"),
    "strict": ("Strict-Matching", "C2", "-"),
    "prior": ("prior alone", "C4", "-"),
    "gold": ("gold labels", "0.25", "--"),
    "dawid_skene": ("Dawid-Skene, online", "C5", "--"),
    "dawid_skene_offline": ("Dawid-Skene, offline", "C5", ":"),
    "no_prior": ("no prior", "C3", "--"),
    "bandit": ("half at random", "C6", "--"),
    "uniform": ("random committees", "0.6", "--"),
}
