"""The rollout: plan, waves, exposure, and `decide(observation, now) -> Step`. Pure and total."""
